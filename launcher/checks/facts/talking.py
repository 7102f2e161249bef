"""What GPUs said to each other, in words: what went wrong, and how fast the rest was.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.gpus import bandwidth
from launcher.gpus.bandwidth import Expected
from launcher.gpus.topology import name_gpus
from launcher.model.collective import Collective, CollectiveTrial
from launcher.model.evidence import Evidence

_GB = 1e9
_ALIKE = 0.95  # of the fastest: no slowest pair is named

_VERBS = {"wrong": "is wrong", "hung": "does not end", "crashed": "crashes", "error": "fails"}
_BEGINNINGS = {"start": "starting", "connect": "connecting"}


def failed(seen: Evidence) -> tuple[Collective, CollectiveTrial] | None:
    """Return the trial in the user's environment, where it did not go well."""
    found = seen.collective
    given = found.given if found else None
    return (found, given) if found and given and given.outcome != "ok" else None


def said(found: Collective, trial: CollectiveTrial) -> str:
    """Return what did not go well, with its exact words."""
    if trial.outcome == "missing":
        return trial.reason
    return f"{_subject(found, trial)} {_VERBS[trial.outcome]}: {trial.reason}"


def _subject(found: Collective, trial: CollectiveTrial) -> str:
    """Return "all_reduce over 8 GPUs", "point-to-point between GPUs 0, 1", "connecting 2 GPUs"."""
    if trial.ranks:
        indices = found.indices(trial.ranks)
        return f"{trial.step} between {name_gpus(indices) if indices else 'two of them'}"
    many = f"{found.ranks} {'GPUs' if found.gpus else 'processes'}"
    beginning = _BEGINNINGS.get(trial.step)
    return f"{beginning} {many}" if beginning else f"{trial.step} over {many}"


def speeds(seen: Evidence) -> Iterator[str]:
    """Yield what was measured beside what the links should carry, a part for each kind."""
    found = seen.collective
    trial = found.given if found else None
    if found is None or trial is None:
        return
    if trial.all_reduce:
        yield f"all_reduce {beside(trial.all_reduce, of_all(seen))}"
    if trial.pairs:
        ordered = sorted(trial.pairs, key=lambda pair: pair.bytes_per_second)
        slowest, fastest = ordered[0], ordered[-1].bytes_per_second
        indices = found.indices((slowest.a, slowest.b))
        if slowest.bytes_per_second >= _ALIKE * fastest:
            whose = ""
        else:
            whose = f"up to {fastest / _GB:.3g} GB/s, between {name_gpus(indices)} " * bool(indices)
        expected = bandwidth.between(seen.report, *indices) if indices else None
        yield f"point-to-point {whose}{beside(slowest.bytes_per_second, expected)}"


def of_all(seen: Evidence) -> Expected | None:
    """Return what all_reduce over all of them should reach."""
    found = seen.collective
    indices = found.indices(range(found.ranks)) if found else ()
    return bandwidth.of_all_reduce(seen.report, indices) if indices else None


def beside(bytes_per_second: float, expected: Expected | None) -> str:
    """Return "361 GB/s of about 371 (18 NVLinks a GPU)"."""
    measured = f"{bytes_per_second / _GB:.3g} GB/s"
    if expected is None:
        return measured
    return f"{measured} of about {expected.bytes_per_second / _GB:.3g} ({expected.links})"
