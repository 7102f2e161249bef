"""The checks of the workflows find what is wrong in one; `make lint` runs them on ours."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

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
def test_no_image_of_others_runs_in_a_script(path: object) -> None:
    """One that is named by its tag is whatever that is today, and might own the machine."""
    text = workflows.FOLDER.joinpath(str(path)).read_text()
    assert re.findall(r"docker run .*", text) == []


def test_a_rebuild_is_of_the_newest_release(tmp_path: Path) -> None:
    """Its tags say the release: what is on the main branch since then is in none of them."""
    text = (workflows.FOLDER / "rebuild.yml").read_text()
    (script,) = re.findall(r"- id: read\n        run: \|\n((?: {10}.*\n)+)", text)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    told = tmp_path / "output"
    outputs = []
    for tag in ("", "v0.9.0", "v0.10.0", "v1.0.0-rc1"):
        commit = [*git, "commit", "--quiet", "--allow-empty", "--message", "x"]
        subprocess.run(commit, cwd=tmp_path, check=True)
        if tag:
            subprocess.run(["git", "tag", tag], cwd=tmp_path, check=True)
        told.write_text("")
        subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "GITHUB_OUTPUT": str(told)},
            check=True,
        )
        outputs.append(dict(line.split("=", 1) for line in told.read_text().splitlines()))
    assert [one["ref"] for one in outputs] == ["", "v0.9.0", "v0.10.0", "v0.10.0"]
    assert outputs[2]["release"] == "0.10.0"
    assert re.fullmatch(r"\d{8}T\d{4}", outputs[2]["date"]), "part of a tag"
    assert "if: needs.version.outputs.ref != ''" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_value_of_an_event_is_part_of_a_script(path: object) -> None:
    """It is data, in the environment; `${{ … }}` in a script would be syntax."""
    text = workflows.FOLDER.joinpath(str(path)).read_text()
    scripts = re.findall(r"run: (?:\|\n((?:          .*\n|\n)+)|(.+))", text)
    assert scripts
    assert [script for parts in scripts for script in parts if "${{" in script] == []
