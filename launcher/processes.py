"""The processes of the box, from /proc (proc_pid_stat(5)), and how to signal them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping


def kill(pid: int, number: int) -> None:
    """Signal a process that may have ended meanwhile."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def signal_name(number: int) -> str:
    """Return SIGTERM for 15; real-time signals have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kill_descendants(number: int) -> None:
    for pid in descendants():
        kill(pid, number)


def descendants() -> list[int]:
    """Return every process of the box but us: as PID 1 all there are, else our descendants."""
    me = os.getpid()
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            parents[int(name)] = int(parent)
    if me == 1:
        return [pid for pid in parents if pid != 1]
    return [pid for pid in parents if _is_below(pid, me, parents)]


def _is_below(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    pid = parents.get(pid, 0)
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parents.get(pid, 0)
    return False
