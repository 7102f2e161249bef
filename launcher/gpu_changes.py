"""What only a comparison with the start shows: GPUs that are gone, MIG cut otherwise.  Pure.

What is wrong in itself (a lost GPU, a driver that fails) is the checks' to say.
"""

from __future__ import annotations

from launcher.machine import Gpu, GpuReport
from launcher.model import Finding


def compare(at_start: GpuReport, now: GpuReport, anew: str) -> Finding | None:
    """Return what was lost since the start, or None; more GPUs than then are no loss.

    Args:
        anew: how this container is created once more, which plans with what is there then.
    """
    if now.failure or len(now.lost) > len(at_start.lost):
        return None
    there = {gpu.uuid: gpu for gpu in now.gpus}
    gone = [gpu for gpu in at_start.gpus if gpu.uuid not in there]
    if gone:
        return Finding(
            "gpus.gone",
            f"{_names(gone)} not listed any more: NVML counts {len(now.gpus)}, "
            f"{len(at_start.gpus)} at the start",
            "programs on it fail, and those that start now find the others under other numbers",
            f"on the host: nvidia-smi -L; sudo dmesg | grep -i -e nvrm -e xid; then {anew}",
        )
    cut = [text for gpu in at_start.gpus if (text := _recut(gpu, there[gpu.uuid]))]
    if cut:
        return Finding(
            "gpus.mig_changed",
            "; ".join(cut),
            "CUDA_VISIBLE_DEVICES names what is not there, so new programs get no GPU",
            f"to use what is there now, {anew}",
        )
    return None


def _names(gpus: list[Gpu]) -> str:
    named = ", ".join(f"GPU {gpu.index} ({gpu.name}, {gpu.pci_bus_id})" for gpu in gpus)
    return f"{named} {'is' if len(gpus) == 1 else 'are'}"


def _recut(start: Gpu, now: Gpu) -> str | None:
    if bool(start.mig_enabled) != bool(now.mig_enabled):
        return f"MIG mode of GPU {start.index} was turned {'on' if now.mig_enabled else 'off'}"
    missing = [uuid for uuid in start.mig_uuids if uuid not in now.mig_uuids]
    if not missing:
        return None
    count = len(start.mig_uuids)
    return (
        f"MIG of GPU {start.index} was reconfigured: {len(missing)} of {count} instances are gone"
    )
