"""Programs that hang, flood, or leave something behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.process.bounded import Child, start_all, wait_for
from testing.local_box import wait_until


def test_what_hangs_is_dead_afterwards(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; sleep 1000 & echo $! > {tmp_path}/grandchild; wait"
    child = Child(["/bin/sh", "-c", script], {})
    assert wait_for([child], 0.5, lambda: None) == (False,)
    for name in ("pid", "grandchild"):
        pid = int((tmp_path / name).read_text())
        wait_until(lambda pid=pid: not _runs(pid), f"{name} is still there")


def test_a_child_has_ended_though_its_own_child_holds_the_pipes(tmp_path: Path) -> None:
    """Its end counts; else a daemon that it starts would make every run last the whole bound."""
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; echo '{{}}'"
    child = Child(["/bin/sh", "-c", script], {})
    began = time.monotonic()
    try:
        assert wait_for([child], 30, lambda: None) == (True,)
        assert time.monotonic() - began < 15
        assert child.answer == {}
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 9)


def test_noise_and_floods_do_not_hide_the_answer() -> None:
    flood = "import sys; sys.stdout.write('[1]\\n{' * 200000 + '\\n{\"a\": 1}\\nnoise\\n')"
    child = Child([sys.executable, "-I", "-c", flood], {})
    wait_for([child], 30, lambda: None)
    assert child.answer == {"a": 1}


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_of_several_all_are_started_or_none(tmp_path: Path) -> None:
    note = tmp_path / "started"
    first = ["/bin/sh", "-c", f"echo $$ > {note}; exec sleep 600"]

    def commands() -> Iterator[tuple[list[str], dict[str, str]]]:
        yield first, {}
        wait_until(lambda: note.exists() and note.read_text(), "the first runs")
        yield ["/does/not/exist"], {}

    with pytest.raises(OSError, match="No such file"):
        start_all(commands())
    assert not Path(f"/proc/{note.read_text().strip()}").exists()
