"""Does NVML still list what it listed at the start?  The cheap look, every half minute.

Runs in a forked child: the library may hang or crash.  By ctypes and not by pynvml, whose import
alone takes five times as long as all of this; what is wrong is then for `gpu_loss` to find out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping

from launcher.model.watch import GpusAtStart
from launcher.paths import walk
from launcher.settings import environ

_UUID_SIZE = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE
_MIG_SLOTS = 8  # of any GPU that has MIG, and does not say how many

_LIBRARY = "libnvidia-ml.so.1"

# What is listed: by the UUID of each GPU, those of its MIG instances; None = not in MIG mode.
Roll = Mapping[str, frozenset[str] | None]


def as_at_start(start: GpusAtStart, control_fault: str) -> bool:
    """Return whether every GPU of the start is there, with every MIG instance.

    Args:
        control_fault: what opening the control node did now.
    """
    if control_fault != start.control_fault:
        return False
    try:
        now, unopened = _call()
    except (OSError, AttributeError):  # no library, or one without these functions
        return False
    return unopened <= start.lost and all(
        gpu.uuid in now and _covers(now[gpu.uuid], gpu.instances) for gpu in start.listed
    )


def ask_as_the_start_did(start: GpusAtStart) -> None:
    """Take the container's environment, and NVML from where it says: watch has neither.

    The loader reads LD_LIBRARY_PATH at exec alone; what is loaded from there now is what everybody
    who asks for it by name gets.  Raises OSError where others than root could have put it there.
    """
    environ.replace(dict(start.environ))
    for folder in environ.own().get("LD_LIBRARY_PATH", "").split(":"):
        path = f"{folder}/{_LIBRARY}"
        if not folder.startswith("/") or not os.path.exists(path):
            continue
        found = walk.weakness(folder) or walk.weakness_of_file(path)
        if found:
            raise OSError(
                f"{path} can be changed by others than root, who does not load it: {found}"
            )
        with contextlib.suppress(OSError):  # of another architecture: the loader goes on, too
            ctypes.CDLL(path)
            return


def _covers(now: frozenset[str] | None, start: frozenset[str] | None) -> bool:
    return now is start is None or (now is not None and start is not None and start <= now)


def _call() -> tuple[Roll, int]:
    """Return what NVML lists, and how many GPUs it counts and cannot open.

    Raises OSError where it does not work at all.
    """
    nvml = ctypes.CDLL(_LIBRARY)
    _check(nvml.nvmlInit_v2())
    try:
        count = ctypes.c_uint()
        _check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)))
        found: dict[str, frozenset[str] | None] = {}
        for index in range(count.value):
            device = ctypes.c_void_p()
            try:
                _check(nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)))
                found[_uuid(nvml, device)] = _instances(nvml, device)
            except OSError:
                continue
        return found, count.value - len(found)
    finally:
        nvml.nvmlShutdown()


def _instances(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> frozenset[str] | None:
    mode, pending = ctypes.c_uint(), ctypes.c_uint()
    status = nvml.nvmlDeviceGetMigMode(device, ctypes.byref(mode), ctypes.byref(pending))
    if status or mode.value != 1:  # a GPU that has no MIG, or does not tell
        return None
    slots, instance = ctypes.c_uint(), ctypes.c_void_p()
    if nvml.nvmlDeviceGetMaxMigDeviceCount(device, ctypes.byref(slots)):
        slots.value = _MIG_SLOTS
    return frozenset(
        _uuid(nvml, instance)
        for slot in range(slots.value)  # an empty slot is an error, and no instance
        if not nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, slot, ctypes.byref(instance))
    )


def _uuid(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(_UUID_SIZE)
    _check(nvml.nvmlDeviceGetUUID(device, buffer, _UUID_SIZE))
    return buffer.value.decode()


def _check(status: int) -> None:
    if status:
        raise OSError(f"NVML {status}")
