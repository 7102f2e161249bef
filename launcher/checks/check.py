"""One row of the table of checks, and the words that rows share.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from launcher.model.evidence import Evidence

CPU_ONLY = "everything runs on the CPU"


class Check(NamedTuple):
    """One thing that can be wrong.

    `seen` returns what was seen of it, with the exact string or code, and None where it is not
    the case or the evidence is missing.  A failure may assume that no failure above it applies.
    """

    id: str
    seen: Callable[[Evidence], str | None]
    means: str
    fix: str | Callable[[Evidence], str]
    warning: bool = False  # worth knowing, but CUDA works all the same


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def nvml_words(seen: Evidence) -> str:
    """Return the failure of NVML as a whole: its code, and its own words."""
    code = seen.report.failure.code if seen.report.failure else None
    return f"NVML {code}: {seen.reason.rstrip('.')}"
