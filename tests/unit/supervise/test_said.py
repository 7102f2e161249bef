"""The launcher's own last lines: which of the log they are, and what is never among them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.supervise.said import Log


@pytest.fixture
def log() -> Iterator[Log]:
    null = os.open(os.devnull, os.O_WRONLY)
    yield Log(null)
    os.close(null)


def kept(log: Log, path: Path) -> list[str]:
    log.keep(str(path))
    assert path.stat().st_mode & 0o777 == 0o644
    return path.read_text().splitlines()


def test_it_has_our_lines_with_their_time_and_no_other(log: Log, tmp_path: Path) -> None:
    log.write(b" Ready \n   http://127.0.0.1:8888/lab?token=s3cret\njupyter | launcher: no\n")
    assert not log.changed
    log.say("    a program's last line")
    log.say("launcher: sshd ended after 3 s (exit status 1); it is started again")
    assert log.changed
    (line,) = kept(log, tmp_path / "said")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ launcher: sshd ended .* again", line)
    assert not log.changed


def test_it_has_the_last_hundred_and_none_is_long(log: Log, tmp_path: Path) -> None:
    for number in range(130):
        log.say(f"launcher: {number} {'x' * 5000}")
    lines = kept(log, tmp_path / "said")
    assert [line.split()[2] for line in lines] == [str(number) for number in range(30, 130)]
    assert max(map(len, lines)) < 1100


def test_what_looks_like_a_secret_is_masked(log: Log, tmp_path: Path) -> None:
    log.say("launcher: cannot read https://ann:s3cret@example.org/x")
    (line,) = kept(log, tmp_path / "said")
    assert "s3cret" not in line
    assert "https://***@example.org/x" in line


def test_without_room_it_is_written_later(log: Log, tmp_path: Path) -> None:
    log.say("launcher: a line")
    log.keep(f"{tmp_path}/no/such/folder")
    assert log.changed
    assert len(kept(log, tmp_path / "said")) == 1
