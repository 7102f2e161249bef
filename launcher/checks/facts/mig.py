"""GPUs in MIG mode of which no instance can be used.  Pure."""

from __future__ import annotations

from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu

_CREATE = (
    "on the host: sudo nvidia-smi mig -i {0} -cgi 0 -C makes one of the whole GPU (mig -lgip lists "
    "others); without MIG: sudo nvidia-smi -i {0} -mig 0"
)
_OPEN = "on the host: nvidia-smi -L shows them; then create the container anew with them"


def is_empty(gpu: Gpu) -> bool:
    return bool(gpu.mig_enabled) and not gpu.mig_devices


def name_empty(seen: Evidence) -> str | None:
    """Return which they are, and whether they have none or none opens."""
    said = {
        gpu.index: "there is no MIG instance"
        if gpu.mig_fault is None
        else f"no MIG instance can be opened (NVML {gpu.mig_fault})"
        for gpu in seen.gpus
        if is_empty(gpu)
    }
    return "; ".join(f"GPU {at}: MIG mode is on, and {why}" for at, why in said.items()) or None


def make_instance(seen: Evidence) -> str:
    """Return what gives the first of them an instance."""
    first = next(filter(is_empty, seen.gpus))
    return _CREATE.format(first.smi_id) if first.mig_fault is None else _OPEN
