"""One row of the table of checks, and the words that rows share.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from launcher.gpus.fabric import TROUBLES, Trouble
from launcher.model.evidence import Evidence
from launcher.model.named_tuple import NamedTuple

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


def joined_worse(
    layer: str, unless: Callable[[Evidence], str | None] = lambda seen: None
) -> Iterator[Check]:
    """Yield the rows of GPUs that NVLink joins worse than their equals (gpus/fabric).

    Args:
        unless: a failure of the layer that says it already.
    """
    for trouble in TROUBLES:
        if trouble.id.startswith(layer):
            yield _row(trouble, unless)


def _row(trouble: Trouble, unless: Callable[[Evidence], str | None]) -> Check:
    def seen(evidence: Evidence) -> str | None:
        finding = trouble.finding(evidence.report)
        return finding.what if finding and not unless(evidence) else None

    def fix(evidence: Evidence) -> str:
        return trouble.fix(evidence.report, trouble.find(evidence.report))

    return Check(trouble.id, seen, trouble.means, fix, warning=True)
