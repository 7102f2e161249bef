"""LAUNCHER_PORTS: strict about ports, and whatever a name says is text."""

from __future__ import annotations

import pytest

from launcher.model.errors import BadSetting
from launcher.model.plan import NamedPort
from launcher.settings.load import load_settings
from launcher.settings.ports import named_ports


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("7860=Gradio", (NamedPort(7860, "Gradio"),)),
        (
            "7860=Gradio, 6006=TensorBoard,",
            (NamedPort(7860, "Gradio"), NamedPort(6006, "TensorBoard")),
        ),
        ("80=a=b; $(x) \"'<b>%s", (NamedPort(80, "a=b; $(x) \"'<b>%s"),)),
        ("65535=模型", (NamedPort(65535, "模型"),)),
    ],
)
def test_ports_and_names(text: str, ports: tuple[NamedPort, ...]) -> None:
    assert named_ports(text) == ports


@pytest.mark.parametrize(
    "text",
    ["7860", "Gradio=7860", "7860=", "7860= ", "0=x", "65536=x", "-1=x", "７８=x", "7860=a\nb",
     "7860=a,,6006=b", f"7860={'x' * 41}", "7860=a,7860=b", ",", "7860:Gradio",
     ",".join(f"{port}=x" for port in range(1, 99))],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadSetting, match=r"LAUNCHER_PORTS=.*expected (PORT=NAME|each port once)"):
        load_settings({"LAUNCHER_PORTS": text})
