"""The kernel's lists of CPUs and nodes: "0-3,8" (kernel.org, admin-guide/cputopology).  Pure."""

from __future__ import annotations

from collections.abc import Iterable


def read_list(text: str) -> frozenset[int]:
    """Read it.  Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)


def write_list(numbers: Iterable[int]) -> str:
    """Write it, in order."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges)
