"""The table of checks, lowest layer first; the first that fails is the cause.  Pure.

A check's id is LAYER.WHAT; docs/doctor.md has a section for each, with its source.  Each layer
has a file.  `facts` is what rows look at (`cards`, `injection`, `mask` …) and what their fixes say
(`how_to_run`, `wheels`).
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks import (
    collective,
    cuda,
    driver,
    environment,
    hardware,
    libraries,
    pytorch,
    resources,
    runtime,
)
from launcher.checks.check import Check
from launcher.checks.facts.how_to_run import fit
from launcher.model.evidence import Evidence
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Finding

# In the order of dependence: each of them needs those before it.  Numbered from 1.
LAYERS = (
    "hardware", "driver", "runtime", "libraries", "cuda", "pytorch", "environment", "resources",
    "collective",
)  # fmt: skip
COLLECTIVE = LAYERS[-1]  # which is looked at where that is asked for

CHECKS: tuple[Check, ...] = (
    *hardware.CHECKS,
    *driver.CHECKS,
    *runtime.CHECKS,
    *libraries.CHECKS,
    *cuda.CHECKS,
    *pytorch.CHECKS,
    *environment.CHECKS,
    *resources.CHECKS,
    *collective.CHECKS,
)


class Verdict(NamedTuple):
    """What the checks found: one failure at most, and whatever else is worth knowing."""

    failure: Finding | None
    warnings: tuple[Finding, ...]

    @property
    def layer(self) -> str | None:
        """Return the name of the layer that is broken."""
        return self.failure.id.partition(".")[0] if self.failure else None

    @property
    def exit_status(self) -> int:
        """Return 0, or 10 + the number of the layer that is broken."""
        return 10 + LAYERS.index(self.layer) + 1 if self.layer else 0


def judge(seen: Evidence, checks: tuple[Check, ...] = CHECKS) -> Verdict:
    """Return the lowest failure, and every warning that does not follow from it.

    Every failure is one of using GPUs, so there is none where no GPU is wanted.
    """
    failures = () if seen.cpu_only else _findings(seen, checks, warnings=False)
    failure = next(iter(failures), None)
    return Verdict(failure, tuple(_findings(seen, checks, warnings=True)))


def _findings(seen: Evidence, checks: tuple[Check, ...], *, warnings: bool) -> Iterator[Finding]:
    for check in checks:
        if check.warning is warnings and (what := check.seen(seen)):
            fix = check.fix if isinstance(check.fix, str) else check.fix(seen)
            yield Finding(check.id, what, check.means, fit(fix, seen.machine.host))
