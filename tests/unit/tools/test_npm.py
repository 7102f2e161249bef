"""A program of npm's is installed once, however many ask for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tools import npm, turn

# Writes its program late, as npm does, and a line for each time that it is run.
SLOW_NPM = """#!/bin/sh
while [ "$1" != --prefix ]; do shift; done
echo run >> "$2/../runs"
sleep 0.3
mkdir -p "$2/node_modules/.bin"
echo > "$2/node_modules/.bin/program"
"""


def test_two_that_ask_at_once_get_one_whole_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "npm").write_text(SLOW_NPM)
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for module in (npm, turn):
        monkeypatch.setattr(module, "CACHE", tmp_path / "cache")

    def is_there(_: int) -> bool:
        return (npm.provide("some", "some@1") / ".bin" / "program").exists()

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(is_there, range(2))) == [True, True]
    assert (tmp_path / "cache" / "runs").read_text() == "run\n"
