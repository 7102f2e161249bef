"""TZ: a name that no zone has is UTC, without a word of the C library's (tzset(3)).  Reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

ZONES = "/usr/share/zoneinfo"
# A name, and not a rule such as CET-1CEST or <+03>-3, nor a file's path.
_NAME = r":?([A-Za-z_]+(?:/[A-Za-z0-9_+-]+)*)"


def doubts(environ: Mapping[str, str], zones: str = ZONES) -> Iterator[str]:
    """Yield a warning where TZ is the name of no zone here, with the nearest that is one."""
    match = re.fullmatch(_NAME, environ.get("TZ", "").strip())
    if not match or os.path.isfile(f"{zones}/{match[1]}") or match[1] in ("UTC", "GMT"):
        return
    shown = match[1][:60]
    if not os.path.isdir(zones):
        yield f"TZ={shown}: this image has no time zones, so it is UTC; apt-get install tzdata"
        return
    from difflib import get_close_matches  # where there is something to say

    area, _, _ = match[1].rpartition("/")
    names = [f"{area}/{name}".strip("/") for name in _names(f"{zones}/{area}")]
    names += [name for top in _names(zones) for name in _below(zones, top)] if not area else []
    near = get_close_matches(match[1], names, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; the names are those below {zones}"
    yield f"TZ={shown} is no time zone here, so programs take UTC{hint}"


def _below(zones: str, top: str) -> Iterator[str]:
    return (f"{top}/{name}" for name in _names(f"{zones}/{top}"))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
