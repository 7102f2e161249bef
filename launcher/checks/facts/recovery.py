"""What drivers from 570 on say that a GPU needs, after an error that they know.  Pure."""

from __future__ import annotations

from collections.abc import Callable

from launcher.gpus import xid
from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu


def needs_reset(gpu: Gpu) -> bool:
    """Return whether nothing runs there before a reset, or a reboot of the host."""
    return xid.needs_reset(gpu.recovery)


def drains(gpu: Gpu) -> bool:
    """Return whether what runs there may end in peace."""
    return xid.what_it_needs(gpu.recovery) is not None and not needs_reset(gpu)


def say(is_meant: Callable[[Gpu], bool]) -> Callable[[Evidence], str | None]:
    """Return a check that names these GPUs, with what each needs."""
    return lambda seen: (
        "; ".join(
            f"GPU {gpu.index}: the driver says that it needs {need.words}"
            for gpu in seen.gpus
            if is_meant(gpu) and (need := xid.what_it_needs(gpu.recovery))
        )
        or None
    )


def recover(is_meant: Callable[[Gpu], bool]) -> Callable[[Evidence], str]:
    """Return a fix for the first of these GPUs."""

    def fix(seen: Evidence) -> str:
        first = next(gpu for gpu in seen.gpus if is_meant(gpu))
        need = xid.what_it_needs(first.recovery)
        return need.advice.fix.format(first.smi_id) if need else ""

    return fix
