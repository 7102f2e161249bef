"""The checks of the workflows find what is wrong in one; `make lint` runs them on ours."""

from __future__ import annotations

import re

import pytest

from tools import workflows

FILES = sorted(workflows.FOLDER.glob("*.yml"))


def test_there_is_one_for_each_occasion() -> None:
    assert {path.stem for path in FILES} == {"test", "publish", "release", "rebuild"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_say_their_version(path: object) -> None:
    """A tag can be moved by whoever takes over the action's repository."""
    text = workflows.FOLDER.joinpath(str(path)).read_text()
    used = re.findall(r"uses: (.+)", text)
    assert used
    pinned = re.compile(r"(\./\S+|\S+@[0-9a-f]{40} # v\d[\d.]*)")
    assert [line for line in used if not pinned.fullmatch(line)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_value_of_an_event_is_part_of_a_script(path: object) -> None:
    """It is data, in the environment; `${{ … }}` in a script would be syntax."""
    text = workflows.FOLDER.joinpath(str(path)).read_text()
    scripts = re.findall(r"run: (?:\|\n((?:          .*\n|\n)+)|(.+))", text)
    assert scripts
    assert [script for parts in scripts for script in parts if "${{" in script] == []
