"""The checks of the layer "environment": variables that keep CUDA from its devices.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from launcher.checks.check import CPU_ONLY, Check, plural
from launcher.checks.facts.how_to_run import tell
from launcher.checks.facts.mask import BY_BUS, ORDER, VISIBLE, list_meant, mask_of
from launcher.model.evidence import CLEAN, NO_MASKS, NO_MPS, CudaTrial, Evidence

_SHOWN = 40  # characters of a device order that messages repeat
_BEFORE = "CUDA sees only what comes before it"

# What can be wrong with a mask: alone it hides everything, further on in a list the rest.
_FAULTS = (
    "hides_all", "duplicate", "out_of_range", "not_a_device", "malformed_uuid", "ambiguous_uuid",
    "stale_uuid", "mig_uuid_gone", "no_instance",
)  # fmt: skip

# --- rows -----------------------------------------------------------------------------------------


def _hides_all(fault: str) -> Callable[[Evidence], str | None]:
    """Return a check: this fault leaves CUDA no device."""

    def check(seen: Evidence) -> str | None:
        mask = mask_of(seen)
        if mask is None or mask.left or mask.fault != fault:
            return None
        return "; ".join([mask.seen, *_error(seen.given)])

    return check


def _hides_some(*faults: str) -> Callable[[Evidence], str | None]:
    """Return a check: CUDA sees some devices, and one of these faults ends the list."""

    def check(seen: Evidence) -> str | None:
        mask = mask_of(seen)
        return mask.seen if mask and mask.left and mask.fault in faults else None

    return check


def _space_in_uuids(seen: Evidence) -> str | None:
    spaced = any(char.isspace() for char in seen.environ.get(VISIBLE, ""))
    return _hides_some("malformed_uuid")(seen) if spaced else None


def _truncated(seen: Evidence) -> str | None:
    return None if _space_in_uuids(seen) else _hides_some(*_FAULTS)(seen)


def _blind(seen: Evidence) -> CudaTrial | None:
    """Return the trial as given, where CUDA saw no device in it."""
    return None if seen.given is None or seen.given.devices else seen.given


def _mps_variables(seen: Evidence) -> list[str]:
    return sorted(name for name in seen.environ if name.startswith("CUDA_MPS_"))


def _mps_renumbered(seen: Evidence) -> str | None:
    if not (_blind(seen) and seen.cures(NO_MASKS) and _mps_variables(seen)):
        return None
    return _cured(seen, NO_MASKS, [VISIBLE])


def _mps(seen: Evidence) -> str | None:
    if not (_blind(seen) and seen.cures(NO_MPS)):
        return None
    return _cured(seen, NO_MPS, _mps_variables(seen))


def _masks(seen: Evidence) -> str | None:
    cure = next((how for how in (NO_MASKS, CLEAN) if seen.cures(how)), None)
    return _cured(seen, cure, [VISIBLE]) if cure and _blind(seen) else None


def _cured(seen: Evidence, how: str, variables: Sequence[str]) -> str:
    """Say how CUDA failed, and what it saw once these variables, or others, were left out."""
    cure = seen.trial(how)
    assert cure is not None, "only what was tried cures"
    without = ", ".join(cure.left_out or variables)
    well = f"without {without} CUDA sees {plural(len(cure.devices), 'device')}"
    return "; ".join([*_error(seen.given), well])


def _error(trial: CudaTrial | None) -> Iterator[str]:
    """Yield the driver's words, with the code."""
    if trial and trial.outcome == "error" and trial.code is not None:
        yield f"CUDA {trial.code}: {trial.name}" if trial.name else f"CUDA error {trial.code}"
    elif trial and trial.outcome != "ok":
        yield f"CUDA {trial.outcome}: {trial.reason}"


def _device_order(seen: Evidence) -> str | None:
    order = seen.environ.get(ORDER)
    kinds = len({gpu.name for gpu in seen.gpus})
    if not order or order == BY_BUS or kinds < 2:
        return None
    on = f"on GPUs of {kinds} kinds"
    if order == "FASTEST_FIRST":
        return f"{ORDER}={order} {on}"
    shown = order.encode("unicode_escape").decode("ascii")[:_SHOWN]
    return f'{ORDER}="{shown}" is neither FASTEST_FIRST nor {BY_BUS}, {on}'


# --- what mends it --------------------------------------------------------------------------------


def _assign(seen: Evidence, assignment: str) -> str:
    """Return how to set a variable where this box was started."""
    return tell(seen.machine.host, "variable", assignment)


def _as_meant(seen: Evidence) -> str:
    return _assign(seen, f"{VISIBLE}={list_meant(seen)}")


def _by_uuid(seen: Evidence) -> str:
    uuids = ",".join(gpu.uuid for gpu in seen.gpus)
    assigned = _assign(seen, f"{VISIBLE}={uuids}")
    return f"name GPUs by UUID, which MPS does not renumber: {assigned}"


def _without_mps(seen: Evidence) -> str:
    variables = " ".join(_mps_variables(seen)) or "CUDA_MPS_PIPE_DIRECTORY"
    return (
        f"in the container: unset {variables}   (or share the host's MPS, as the user of its "
        f"server: {tell(seen.machine.host, 'mps')})"
    )


def _without_variables(seen: Evidence) -> str:
    cure = next((how for how in (NO_MASKS, CLEAN) if seen.cures(how)), NO_MASKS)
    trial = seen.trial(cure)
    names = [name for name in trial.left_out if name in seen.environ] if trial else []
    return f"in the container: unset {' '.join(names or [VISIBLE])}"


CHECKS: tuple[Check, ...] = (
    *(Check(f"environment.{fault}", _hides_all(fault), CPU_ONLY, _as_meant) for fault in _FAULTS),
    Check("environment.mps_renumbered", _mps_renumbered, CPU_ONLY, _by_uuid),
    Check("environment.mps", _mps, CPU_ONLY, _without_mps),
    Check("environment.masks", _masks, CPU_ONLY, _without_variables),
    Check("environment.space_in_uuids", _space_in_uuids, _BEFORE, _as_meant, warning=True),
    Check("environment.mixed_kinds", _hides_some("mixed_kinds"), _BEFORE, _as_meant, warning=True),
    Check("environment.truncated", _truncated, _BEFORE, _as_meant, warning=True),
    Check("environment.read_otherwise", _hides_some("read_otherwise"),
          "CUDA sees other devices than it seems to say", _as_meant, warning=True),
    Check("environment.device_order", _device_order,
          "GPU numbers are not those of nvidia-smi; torch.cuda.utilization() may read another card",
          lambda seen: _assign(seen, f"{ORDER}={BY_BUS}"), warning=True),
)  # fmt: skip
