"""Slurm's lists of nodes: `n[1,3-5,010-012],gpu2`.  Pure.

Only the first name and how many there are: nothing grows with the number of nodes.
Slurm's "Hostlist expressions" (scontrol(1), show hostnames); several brackets in a name multiply.
"""

from __future__ import annotations

import re

from launcher.model.named_tuple import NamedTuple

# One name: words and brackets in turn.  A comma inside brackets belongs to the name.
_NAME = re.compile(r"(?:[^\[\],\s]+|\[[^\[\]\s]*\])+")
_PART = re.compile(r"\[([^\]]*)\]|([^\[]+)")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_MOST = 10**18  # names: many brackets multiply to numbers that cannot be written out


class Nodes(NamedTuple):
    """What is needed of a list."""

    first: str
    count: int  # type: ignore[assignment]


def read_nodes(text: str) -> Nodes:
    """Return the first name of a list, and how many it has.

    Raises ValueError, with the part that cannot be read.
    """
    first, count, end = "", 0, 0
    for found in _NAME.finditer(text):
        if text[end : found.start()] != ("," if count else ""):
            raise ValueError(text[end:])
        name = _read_name(found[0])
        first, count, end = first or name.first, count + name.count, found.end()
    if end != len(text) or not count:
        raise ValueError(text[end:])
    return Nodes(first, count)


def _read_name(text: str) -> Nodes:
    first, count = "", 1
    for ranges, plain in _PART.findall(text):
        if plain:
            first += plain
            continue
        firsts = [_read_range(one) for one in ranges.split(",")]
        first += firsts[0].first
        count *= sum(one.count for one in firsts)
        if count > _MOST:
            raise ValueError(text)
    return Nodes(first, count)


def _read_range(text: str) -> Nodes:
    """Read "7", "3-5" or "010-012": zeros in front are part of the name."""
    found = _RANGE.fullmatch(text)
    low, high = (found[1], found[2] or found[1]) if found else ("1", "0")
    if int(high) < int(low):
        raise ValueError(text)
    return Nodes(low, int(high) - int(low) + 1)
