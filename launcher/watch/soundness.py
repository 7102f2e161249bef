"""What of a GPU that answers got worse since the start, and is to be said now.  Pure.

The words are the checks': each condition has the id of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping

from launcher.gpus.xid import needs_reset, what_it_needs
from launcher.model.named_tuple import NamedTuple
from launcher.model.watch import GpuState, ListedGpu

# nvmlClocksEventReason*: software and hardware thermal slowdown; power brake.
_THERMAL, _BRAKE = 0x20 | 0x40, 0x80
_LASTS = 60.0  # seconds: for a moment every GPU that computes is held down
_AGAIN = 3600.0  # seconds


class Condition(NamedTuple):
    """Something that may become true of a GPU."""

    id: str  # of the check that says it
    value: Callable[[GpuState], int]  # how bad it is; 0 = it is not so, or not told
    lasts: float = 0.0  # seconds in which every look sees it
    again: float = math.inf  # seconds after which it is said once more
    since_start: bool = True  # what the start found is no news
    is_well: Callable[[GpuState], bool] = lambda _: False  # told to be: worse is news again


CONDITIONS = (
    Condition("hardware.remap_failed", lambda state: int(state.remap_failed or 0)),
    Condition("hardware.remap_pending", lambda state: int(state.remap_pending or 0)),
    Condition("hardware.recovery_drain", lambda state: _drains(state.recovery)),
    Condition("hardware.nvlink_errors", lambda state: state.link_recoveries or 0, again=_AGAIN),
    Condition(
        "resources.not_licensed", lambda state: int(state.licensed is False), again=_AGAIN,
        is_well=lambda state: state.licensed is True,
    ),
    Condition("driver.persistence_off", lambda state: int(state.persistence is False)),
    Condition(
        "resources.thermal_slowdown", lambda state: (state.slowdown or 0) & _THERMAL,
        _LASTS, _AGAIN, since_start=False,
    ),
    Condition(
        "resources.power_brake", lambda state: (state.slowdown or 0) & _BRAKE,
        _LASTS, _AGAIN, since_start=False,
    ),
)  # fmt: skip


def _drains(recovery: int | None) -> int:
    return int(what_it_needs(recovery) is not None and not needs_reset(recovery))


class Progress(NamedTuple):
    """How far one condition of one GPU has come.  Times are CLOCK_MONOTONIC, seconds."""

    since: float = 0.0  # every look has seen it from then on; 0 = the last one did not
    said: float = 0.0  # when; 0 = never
    value: int = 0  # as it was at the start, or was said


Memory = Mapping[str, Mapping[str, Progress]]  # by UUID and condition


def look(
    listed: Iterable[ListedGpu], states: Mapping[str, GpuState], before: Memory, now: float
) -> tuple[list[tuple[str, str]], Memory]:
    """Return what is to be said, as (UUID, condition), and what is known from then on.

    Args:
        listed: the GPUs of the start.
        states: how those are that were asked, by UUID.
        before: what was known.
        now: CLOCK_MONOTONIC, seconds.
    """
    due: list[tuple[str, str]] = []
    after = dict(before)
    for gpu in listed:
        if gpu.uuid not in states:
            continue
        known = dict(before.get(gpu.uuid, {}))
        for condition in CONDITIONS:
            at_start = condition.value(gpu.state) if condition.since_start else 0
            progress = known.get(condition.id, Progress(value=at_start))
            is_due, progress = _step(condition, states[gpu.uuid], progress, now)
            if is_due:
                due.append((gpu.uuid, condition.id))
            known[condition.id] = progress
        after[gpu.uuid] = known
    return due, after


def remember(told: Mapping[str, Mapping[str, Iterable[float]]]) -> Memory:
    """Return what a look before this one knew, from JSON."""
    return {
        uuid: {id: Progress(*progress) for id, progress in conditions.items()}  # type: ignore[arg-type]
        for uuid, conditions in told.items()
    }


def resets(
    listed: Iterable[ListedGpu], states: Mapping[str, GpuState], known: Collection[int]
) -> tuple[list[ListedGpu], list[int]]:
    """Return the GPUs that need a reset by their driver's word, and those that do no more.

    Args:
        listed: the GPUs of the start.
        states: how those are that were asked, by UUID.
        known: the indices of those of which that is known.
    """
    told = [
        (gpu, recovery)
        for gpu in listed
        if (state := states.get(gpu.uuid)) and (recovery := state.recovery) is not None
    ]
    needing = [gpu for gpu, recovery in told if needs_reset(recovery) and gpu.index not in known]
    well = [gpu.index for gpu, recovery in told if not needs_reset(recovery) and gpu.index in known]
    return needing, well


def holding(states: Mapping[str, GpuState], known: Memory) -> dict[str, list[str]]:
    """Return which conditions that were said are so still, by UUID; of those not asked, all."""
    return {
        uuid: [
            condition.id
            for condition in CONDITIONS
            if conditions.get(condition.id, Progress()).said
            and (uuid not in states or condition.value(states[uuid]))
        ]
        for uuid, conditions in known.items()
    }


def _step(
    condition: Condition, state: GpuState, before: Progress, now: float
) -> tuple[bool, Progress]:
    value = condition.value(state)
    if value <= before.value:
        known = 0 if condition.is_well(state) else before.value
        return False, before._replace(since=0.0, value=known)
    since = before.since or now
    rested = not before.said or now - before.said >= condition.again
    if now - since < condition.lasts or not rested:
        return False, before._replace(since=since)
    return True, Progress(since, now, value if condition.since_start else 0)
