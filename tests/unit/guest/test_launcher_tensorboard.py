"""Which folders TensorBoard is given: what PyTorch's tools call their logs, and nothing else."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
NAMES = runpy.run_path(str(GUEST / "launcher_tensorboard.py"))


def _linked(workspace: Path, shown: Path) -> dict[str, str]:
    NAMES["link"](str(workspace), str(shown))
    found = [path for path in shown.rglob("*") if path.is_symlink()]
    return {str(path.relative_to(shown)): os.readlink(path) for path in found}


def test_logs_of_the_workspace_and_of_each_project(tmp_path: Path) -> None:
    workspace, shown = tmp_path / "ws", tmp_path / "shown"
    logs = ("runs", "mine/lightning_logs", "a 'b' {c}/logs")
    for name in (*logs, "data/deep/runs", ".cache/logs", "src"):
        (workspace / name).mkdir(parents=True)
    (workspace / "mine" / "runs").write_text("no folder")
    shown.mkdir()
    assert _linked(workspace, shown) == {name: str(workspace / name) for name in logs}
    (workspace / "logs").mkdir()
    (workspace / "runs").rmdir()
    assert {*_linked(workspace, shown)} == {"logs", *logs[1:]}


def test_a_workspace_that_is_gone_has_none(tmp_path: Path) -> None:
    assert _linked(tmp_path / "gone", tmp_path) == {}
