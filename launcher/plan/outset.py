"""What a plan is made from: everything that was read, and what follows from it once.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from launcher import checks
from launcher.checks import Verdict
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuReport, Machine
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Identity
from launcher.plan.identity import plan_identity
from launcher.settings.table import Settings


class Outset(NamedTuple):
    """What is known when a plan is made."""

    machine: Machine
    settings: Settings
    identity: Identity
    verdict: Verdict
    guest: str  # directory of the programs that run in the user's Python
    started: float  # CLOCK_MONOTONIC, seconds
    container: Mapping[str, str]  # its environment as it was started, before any hook


def set_out(
    machine: Machine,
    settings: Settings,
    guest: str,
    started: float,
    identity: Identity | None = None,
    container: Mapping[str, str] | None = None,
) -> Outset:
    """Return what is known, with what was not decided yet decided now.

    Args:
        container: None where there are no hooks, and so nothing that they changed.

    Where no GPU is wanted, the machine has none: what is broken about them is nobody's concern.

    Raises BadSetting where a machine that is not ours has no account for the user's programs.
    """
    if settings.cpu_only:
        machine = machine._replace(report=GpuReport())
    identity = identity or plan_identity(machine.host, settings)
    seen = Evidence(
        machine, dict(settings.environ), user=identity.account, cpu_only=settings.cpu_only
    )
    return Outset(
        machine,
        settings,
        identity,
        checks.judge(seen),
        guest,
        started,
        settings.environ if container is None else container,
    )
