"""GPUs that others compute on as well, or that are a part of one: what that is, in words.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from launcher.gpus.topology import name_gpus
from launcher.model.host import Sharing
from launcher.model.machine import Gpu, GpuReport
from launcher.model.named_tuple import NamedTuple

# "GRID A100D-20C", "NVIDIA A40-48Q", "NVIDIA A100-1-5CME": the memory in GiB, and the series of the
# licence (NVIDIA, Virtual GPU Software User Guide, "Virtual GPU Types").
_VGPU_NAME = r"^GRID |-\d+(?:[ABCQ]|CME)$"


class Shared(NamedTuple):
    """One way in which GPUs are shared."""

    kind: str  # "MPS" | "time slicing" | "vGPU" | "HAMi"
    text: str  # what that means here


def ways(report: GpuReport, sharing: Sharing) -> Iterator[Shared]:
    """Yield how the GPUs of this box are shared."""
    if not report.gpus:
        return
    if sharing.mps:
        yield Shared(
            "MPS",
            f"by MPS ({sharing.mps}): its clients compute at the same time, and share one fate",
        )
    if sharing.replicas or sharing.time_slicing:
        yield Shared(
            "time slicing",
            "by time slicing: other containers compute on them by turns, and nobody divides their "
            "memory",
        )
    parts = [gpu for gpu in report.gpus if is_vgpu(gpu)]
    if parts:
        names = name_gpus([gpu.index for gpu in parts])
        yield Shared("vGPU", f"with other virtual machines ({names}: a vGPU, {parts[0].name})")
    if sharing.limits:
        yield Shared("HAMi", f"by a library that divides them: {', '.join(sharing.limits)}")


def is_vgpu(gpu: Gpu) -> bool:
    """Return whether it is a part of a GPU; drivers that do not say so have it in the name."""
    return bool(gpu.vgpu) or (gpu.vgpu is None and re.search(_VGPU_NAME, gpu.name) is not None)
