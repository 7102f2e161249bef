"""Whether the kernel has killed for want of memory: the counters of our memory cgroup.

memory.events of cgroup v2 and memory.oom_control of v1 have a line "oom_kill N"
(kernel.org, admin-guide/cgroup-v2 and cgroup-v1/memory).
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from launcher.detect import cgroup_dirs, memory_limit, read_text

_FILES = ("memory.events", "memory.oom_control")

_RECENT = 10.0  # seconds; a large process takes a while to be gone


class Kills:
    """Notices that the kernel kills, so that a death can be told from one by hand."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._seen = kills(root)
        self._looked = self._rose = float("-inf")

    def look(self, every: float = 0.0) -> None:
        """Read the counter, where that was not done within the last `every` seconds."""
        now = time.monotonic()
        if now - self._looked < every:
            return
        self._looked = now
        before, self._seen = self._seen, kills(self._root)
        if self._seen > before:
            self._rose = now

    def recent(self) -> bool:
        """Say whether the kernel has killed a moment ago."""
        self.look()
        return time.monotonic() - self._rose < _RECENT


def kills(root: Path = Path("/")) -> int:
    """Return how many processes of the box were killed so far; 0 where nothing says it."""
    for directory in cgroup_dirs(root, "memory"):
        for name in _FILES:
            found = re.search(r"^oom_kill (\d+)$", read_text(directory / name) or "", re.MULTILINE)
            if found:
                return int(found[1])
    return 0


def reason(root: Path = Path("/")) -> str:
    """Return what is said of a process that was killed so."""
    limit = memory_limit(root)
    if limit is None:
        return "the box is out of memory"
    return f"the box is out of memory: its limit is {limit / 2**30:.3g} GiB"
