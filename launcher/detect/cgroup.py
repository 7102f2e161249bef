"""What the cgroup allows, of either version, and whether it has killed for want of memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


# cgroup v1 writes "no limit" as the largest page-aligned 64-bit number.
_UNLIMITED = 1 << 60


def read_text(path: Path) -> str | None:
    """Return what a file of /proc or /sys says, or None where it is hidden."""
    return attempt(lambda: path.read_text(errors="replace").strip())


def attempt(read: Callable[[], T]) -> T | None:
    """Return read(), or None where the kernel, a mask or a mount hides it."""
    try:
        return read()
    except (OSError, ValueError):
        return None


def cgroup_dirs(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories that may limit us, ours first, up to the mount's root.

    In a container the cgroup mount usually starts at our own group, whatever path
    /proc/self/cgroup names; on a plain machine the path counts.  kernel.org,
    admin-guide/cgroup-v2 and cgroup-v1/cgroups.
    """
    v1 = root / "sys/fs/cgroup" / controller
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            mount = v1
        elif names == "" and not v1.exists():
            mount = root / "sys/fs/cgroup"
        else:
            continue
        inside = [part for part in path.split("/") if part and part != ".."]
        for depth in range(len(inside), -1, -1):
            directory = mount.joinpath(*inside[:depth])
            if directory.is_dir():
                yield directory


def smallest(root: Path, controller: str, names: tuple[str, str]) -> int | None:
    """Return the tightest limit among our cgroups; `names` are the v1 and v2 files."""
    found = [
        int(text)
        for directory in cgroup_dirs(root, controller)
        for name in dict.fromkeys(names)
        if (text := read_text(directory / name)) and text.isdecimal() and int(text) < _UNLIMITED
    ]
    return min(found, default=None)


def cpu_quota(root: Path) -> float | None:
    quotas = []
    for directory in cgroup_dirs(root, "cpu"):
        both = read_text(directory / "cpu.max")  # v2: "$MAX $PERIOD", microseconds
        if both is None:
            both = "{} {}".format(
                read_text(directory / "cpu.cfs_quota_us"),
                read_text(directory / "cpu.cfs_period_us"),
            )
        quota, _, period = both.partition(" ")
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(root: Path) -> int | None:
    """Return how many bytes we may use: the tightest limit, or all that there is."""
    limit = smallest(root, "memory", ("memory.limit_in_bytes", "memory.max"))
    total = re.search(r"MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "")
    physical = int(total[1]) * 1024 if total else None
    return min((n for n in (limit, physical) if n is not None), default=None)


def memory_available(root: Path) -> int | None:
    """Return how many bytes can still be used: within the tightest limit, and of all that is left.

    Of what a cgroup uses, the page cache that nobody touched lately is given back at need
    (kernel.org, admin-guide/cgroup-v2, memory.stat: inactive_file).
    """
    meminfo = read_text(root / "proc/meminfo") or ""
    available = re.search(r"MemAvailable:\s+(\d+) kB", meminfo)
    left = [int(available[1]) * 1024] if available else []
    for directory in cgroup_dirs(root, "memory"):
        for limit_name, usage_name in _LIMIT_AND_USAGE:
            limit = read_text(directory / limit_name) or ""
            usage = read_text(directory / usage_name) or ""
            if limit.isdecimal() and usage.isdecimal() and int(limit) < _UNLIMITED:
                stat = read_text(directory / "memory.stat") or ""
                cache = re.search(r"^(?:total_)?inactive_file (\d+)$", stat, re.MULTILINE)
                used = max(0, int(usage) - (int(cache[1]) if cache else 0))
                left.append(max(0, int(limit) - used))
    return min(left, default=None)


_LIMIT_AND_USAGE = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)

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
