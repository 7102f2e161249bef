"""A template's placeholder lets nobody in: whoever knows the template knows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.model.errors import BadSetting
from launcher.settings import load, tokens

PLACEHOLDERS = (
    "{{ RUNPOD_SECRET_jupyter }}", "{{.Values.token}}", "{{}}", "${JUPYTER_TOKEN}",
    "${TOKEN:-secret}", "${{ secrets.TOKEN }}", "$JUPYTER_TOKEN", "$(JUPYTER_TOKEN)",
    "$(openssl rand -hex 24)", "%JUPYTER_TOKEN%", "<TOKEN>", "<your token here>",
)  # fmt: skip
TOKENS = (
    "s3cret", "{curly}", "a{{b}}c", "{{a}}b", "pa$$word", "$ecret", "$", "$1000", "100%", "50%off",
    "<3", "a<b>c", "<a><b>", "${", "(x)", "[x]", "%20", "%A0%B",
)  # fmt: skip
NAMES = ("JUPYTER_TOKEN", "JUPYTER_PASSWORD", "LAUNCHER_METRICS_TOKEN")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_a_placeholder_counts_as_not_set_and_is_named(name: str, text: str) -> None:
    found = load.load_settings({name: text})
    assert (found.jupyter_token, found.metrics_token) == (None, None)
    assert not {"jupyter_token", "metrics_token"} & found.given.keys()
    (warning,) = found.warnings
    assert warning.startswith(f"{name} is a template's placeholder")
    assert text not in warning


@pytest.mark.parametrize("text", TOKENS)
def test_a_token_with_such_characters_is_a_token(text: str) -> None:
    found = load.load_settings({"JUPYTER_TOKEN": text})
    assert found.jupyter_token is not None
    assert found.jupyter_token.reveal() == text
    assert found.warnings == ()


def test_around_it_may_be_quotes_and_spaces() -> None:
    found = load.load_settings({"JUPYTER_TOKEN": ' "{{ TOKEN }}" '})
    assert found.jupyter_token is None


def test_another_name_or_a_file_counts_in_its_place(tmp_path: Path) -> None:
    found = load.load_settings({"JUPYTER_TOKEN": "${TOKEN}", "WEB_TOKEN": "s3cret"})
    assert found.jupyter_token is not None
    assert found.given["jupyter_token"] == "WEB_TOKEN"
    (tmp_path / "token").write_text("s3cret\n")
    environ = {"JUPYTER_TOKEN": "<TOKEN>", "JUPYTER_TOKEN_FILE": str(tmp_path / "token")}
    assert load.load_settings(environ).given["jupyter_token"] == "JUPYTER_TOKEN_FILE"


@pytest.mark.parametrize("name", ["JUPYTER_TOKEN_FILE", "LAUNCHER_METRICS_TOKEN_FILE"])
def test_a_file_of_a_placeholder_is_refused_as_an_empty_one_is(tmp_path: Path, name: str) -> None:
    (tmp_path / "token").write_text("{{ .Data.token }}\n")
    with pytest.raises(BadSetting, match=f"{name}=.*which holds a template's placeholder"):
        load.load_settings({name: str(tmp_path / "token")})


def test_an_option_of_jupyters_is_looked_at_too() -> None:
    found = load.load_settings({"NOTEBOOK_ARGS": "--ServerApp.token=<TOKEN>"})
    assert found.jupyter_token is None
    (warning,) = found.warnings
    assert warning.startswith("NOTEBOOK_ARGS --ServerApp.token is a template's placeholder")


def test_what_is_no_token_may_be_anything() -> None:
    """A comment of a key, a path or a program's title."""
    found = load.load_settings({"WORKSPACE": "/{{x}}", "LAUNCHER_PORTS": "7860=<App>"})
    assert found.workspace == "/{{x}}"
    assert [text for text in found.warnings if "placeholder" in text] == []


def test_settings_are_listed_as_they_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "own", lambda: {"JUPYTER_TOKEN": "<TOKEN>"})
    (row,) = [row for row in load.describe() if row.name == "JUPYTER_TOKEN"]
    assert row.value is None
    assert tokens.is_unfilled("<TOKEN>")
