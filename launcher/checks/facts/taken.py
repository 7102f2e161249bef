"""Which GPUs and MIG instances are taken, and by whom.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.how_to_run import place_of
from launcher.model.evidence import Evidence
from launcher.model.machine import Gpu, GpuProcess, MigDevice
from launcher.model.named_tuple import NamedTuple

_MIB = 1 << 20
_SHOWN_HOLDERS = 3  # processes that are named
_NEARLY_FULL = 0.05  # of the memory is free
_IDLE_SHARE = 0.05  # of the memory is taken, at most


class Device(NamedTuple):
    """What a program computes on: a GPU, or an instance of one that is in MIG mode."""

    name: str  # "GPU 1", "MIG 0 of GPU 1 (3g.20gb)"
    gpu: Gpu
    itself: Gpu | MigDevice  # which has the memory and the processes


def devices_of(gpu: Gpu) -> Iterator[Device]:
    """Yield the GPU itself, or its instances where it is in MIG mode: each has its own memory."""
    if not gpu.mig_enabled:
        yield Device(f"GPU {gpu.index}", gpu, gpu)
        return
    for place, mig in enumerate(gpu.mig_devices):
        yield Device(f"MIG {place} of GPU {gpu.index} ({mig.profile})", gpu, mig)


def memory_full(seen: Evidence) -> str | None:
    """Return the first device that has next to no memory free, and how many more are like it."""
    full = [one for gpu in seen.gpus for one in devices_of(gpu) if _is_full(one.itself)]
    if not full:
        return None
    first = full[0]
    free, total = (first.itself.memory_free or 0), (first.itself.memory_bytes or 0)
    others = f"; {len(full) - 1} more like it" if len(full) > 1 else ""
    room = f"{free // _MIB} of {total // _MIB} MiB free"
    return f"{first.name} has {room}, {holders(seen, first.itself)}{others}"


def _is_full(device: Gpu | MigDevice) -> bool:
    total, free = device.memory_bytes, device.memory_free
    return bool(total) and free is not None and free < _NEARLY_FULL * (total or 0)


def in_use(device: Gpu | MigDevice) -> bool:
    """Return whether somebody computes on it: others' processes cannot be seen, their memory can.

    A driver keeps some memory of an idle card to itself: hundreds of MiB on the largest ones.
    """
    total, used = device.memory_bytes, device.memory_used
    told = total is not None and used is not None and not _is_shared(device)
    held = told and (used or 0) > _IDLE_SHARE * (total or 0)
    return bool(device.processes) or held


def holders(seen: Evidence, device: Gpu | MigDevice) -> str:
    """Return who holds its memory, in words."""
    if _is_shared(device):
        return "shared with the CPU"
    if not device.processes:
        return "used by processes that cannot be seen from here"
    of_host = "" if place_of(seen.machine.host) == "plain" else " of the host"
    named = [_named(one, of_host) for one in device.holders[:_SHOWN_HOLDERS]]
    rest = device.processes - len(named)
    more = [f"{rest} more"] if named and rest > 0 else []
    words = f": {', '.join([*named, *more])}" if named else ""
    return f"used by {device.processes} process{'es' if device.processes > 1 else ''}{words}"


def _is_shared(device: Gpu | MigDevice) -> bool:
    return isinstance(device, Gpu) and device.memory_shared


def _named(process: GpuProcess, of_host: str) -> str:
    """Return "python (pid 57 here, 1024 MiB)", "pid 4242 of the host (10000 MiB)"."""
    size = "" if process.memory_bytes is None else f"{process.memory_bytes // _MIB} MiB"
    if process.here is None:
        return f"pid {process.pid}{of_host}" + (f" ({size})" if size else "")
    return f"{process.name} ({', '.join(filter(None, (f'pid {process.here} here', size)))})"
