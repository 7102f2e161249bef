"""What the kernel kills in the box for want of memory: a line each time, and how many in all.

A kernel, a DataLoader worker or a training in a terminal dies without a word of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from launcher.detect import cgroup
from launcher.model.named_tuple import NamedTuple
from launcher.model.printable import printable

_MOST = 3  # processes that are named


class User(NamedTuple):
    """A process and what it has in memory."""

    size: int  # bytes, resident
    name: str
    pid: int


class MemoryWatch:
    """Reads the cgroup's counter; what was killed before the box started is not counted."""

    def __init__(self, place: str) -> None:
        """Begin.

        Args:
            place: where the box runs, a row of checks/facts/places.
        """
        self._place = place
        self._before = cgroup.kills()
        self._seen = self._before
        self.more = ""  # how to have more, once something was killed

    @property
    def count(self) -> int:
        return self._seen - self._before

    def look(self) -> str | None:
        """Return a line where the kernel has killed since the last look."""
        before, self._seen = self._seen, max(self._seen, cgroup.kills())
        new = self._seen - before
        if not new:
            return None
        from launcher.checks.facts.how_to_run import tell_at  # where it is said, not in every box

        self.more = tell_at(self._place, "memory")
        return describe(new, largest(), self.more)


def describe(killed: int, users: list[User], more: str) -> str:
    """Return what is said; pure.

    Args:
        killed: how many processes, since it was said last.
        users: who has most now: who was killed is gone.
        more: how the box is given more memory.
    """
    what = "a process" if killed == 1 else f"{killed} processes"
    now = ", ".join(f"{user.name} (pid {user.pid}, {user.size / 2**30:.2g} GiB)" for user in users)
    has_most = f"; what has most now: {now}" if now else ""
    return (
        f"launcher: the kernel killed {what} in this box: {cgroup.reason()}{has_most}; "
        f"fix: use less, or {more}"
    )


def largest() -> list[User]:
    """Return the processes of the box that have most in memory, the largest first."""
    return sorted(_users(), reverse=True)[:_MOST]


def _users() -> Iterator[User]:
    ours = _read("/proc/self/cgroup")
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        status = _read(f"/proc/{pid}/status")
        resident = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)  # proc_pid_status(5)
        if resident and _read(f"/proc/{pid}/cgroup") == ours:
            name = status.partition("\n")[0].removeprefix("Name:").strip()
            yield User(int(resident[1]) * 1024, printable(name), int(pid))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
