"""What processes cost, from /proc (proc(5))."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_SERVICES = ("jupyter", "sshd")  # these and what they start are not the launcher's own
_TICKS = os.sysconf("SC_CLK_TCK")


def _parents() -> dict[int, int]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                found[int(name)] = int(_stat(int(name))[1])
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields after the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def with_descendants(pid: int) -> dict[int, str]:
    """Return `pid` and everything below it, each with its start time."""
    parents = _parents()
    found = {}
    for candidate in parents:
        if _is_below(candidate, pid, parents):
            with contextlib.suppress(OSError):
                found[candidate] = _stat(candidate)[19]
    return found


def _is_below(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    while pid and pid != ancestor:
        pid = parents.get(pid, 0)
    return pid == ancestor


def supervising(pid: int) -> list[int]:
    """Return `pid` and what is below it but the services and their children."""
    parents = _parents()
    services = [p for p in with_descendants(pid) if p != pid and _is_service(p)]
    return [
        p
        for p in with_descendants(pid)
        if not any(_is_below(p, service, parents) for service in services)
    ]


def _is_service(pid: int) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(name in os.path.basename(w.decode()) for w in words for name in _SERVICES)
    return False


def pss_megabytes(pids: list[int]) -> float:
    """Return their proportional set size: a page shared by n processes counts 1/n to each."""
    return _smaps_megabytes(pids, "Pss:")


def rss_megabytes(pids: list[int]) -> float:
    """Return their resident set size: a shared page counts in full to each."""
    return _smaps_megabytes(pids, "Rss:")


def anonymous_megabytes(pids: list[int]) -> float:
    """Return the memory that is theirs and no file's, shared between them counted once each."""
    return _smaps_megabytes(pids, "Pss_Anon:") + _smaps_megabytes(pids, "Pss_Shmem:")


def _smaps_megabytes(pids: list[int], field: str) -> float:
    total = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # ended, and not waited for yet: it has none
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(field):
                    total += int(line.split()[1])
    return total / 1000


def cpu_seconds(pids: list[int]) -> float:
    """Return the CPU time that they and their ended children have used.

    A thread's own time is in nanoseconds (schedstat); of children there are only ticks.
    """
    total = 0.0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0]) / 1e9
        total += sum(int(ticks) for ticks in _stat(pid)[13:15]) / _TICKS
    return total


def end(processes: Mapping[int, str]) -> None:
    """Kill those that are still there and still the same."""
    for pid, started in processes.items():
        with contextlib.suppress(OSError):
            if _stat(pid)[19] == started:
                os.kill(pid, signal.SIGKILL)
