"""NVML by ctypes, as the children of the watch ask it: may hang or crash with the driver.

pynvml's import alone takes five times as long as a look at eight GPUs.  Functions, structures and
codes: NVML API Reference, nvml.h.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from typing import TypeVar

from launcher.model.watch import GpuState

LIBRARY = "libnvidia-ml.so.1"
TIMEOUT, NOT_SUPPORTED = 10, 3  # nvmlReturn_t

_UUID_SIZE = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE
_MIG_SLOTS = 8  # of any GPU that has MIG, and does not say how many
# NVML_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL; _GET_GPU_RECOVERY_ACTION, from driver 570 on.
_LINK_RECOVERIES, RECOVERY = 59, 230

T = TypeVar("T")
_Function = Callable[..., int]


class Refused(OSError):
    """A function that did not return NVML_SUCCESS."""

    def __init__(self, code: int) -> None:
        super().__init__(f"NVML {code}")
        self.code = code


class _Field(ctypes.Structure):
    """nvmlFieldValue_t; a value is the first bytes of a union, whatever its type."""

    _fields_ = (
        ("id", ctypes.c_uint), ("scope", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong), ("latency", ctypes.c_longlong),
        ("type", ctypes.c_uint), ("code", ctypes.c_int), ("value", ctypes.c_ulonglong),
    )  # fmt: skip


class _Licence(ctypes.Structure):
    """nvmlGridLicensableFeature_t of version 4; the end of its licence is not looked at."""

    _fields_ = (
        ("code", ctypes.c_uint), ("state", ctypes.c_uint),
        ("texts", ctypes.c_char * 256), ("enabled", ctypes.c_uint), ("expiry", ctypes.c_uint * 4),
    )  # fmt: skip


class _Licences(ctypes.Structure):
    """nvmlGridLicensableFeatures_t."""

    _fields_ = (
        ("supported", ctypes.c_int), ("count", ctypes.c_uint), ("features", _Licence * 3),
    )  # fmt: skip


_TYPE_BITS = {1: 32, 2: 64, 3: 64}  # nvmlValueType_t: unsigned int, long, long long


def open_library() -> ctypes.CDLL:
    """Return NVML, initialised.  Raises OSError; AttributeError where it is too old a library."""
    nvml = ctypes.CDLL(LIBRARY)
    check(nvml.nvmlInit_v2())
    return nvml


def count(nvml: ctypes.CDLL) -> int:
    number = ctypes.c_uint()
    check(nvml.nvmlDeviceGetCount_v2(ctypes.byref(number)))
    return number.value


def device(nvml: ctypes.CDLL, index: int) -> ctypes.c_void_p:
    found = ctypes.c_void_p()
    check(nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(found)))
    return found


def uuid(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> str:
    buffer = ctypes.create_string_buffer(_UUID_SIZE)
    check(nvml.nvmlDeviceGetUUID(device, buffer, _UUID_SIZE))
    return buffer.value.decode(errors="replace")


def instances(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> frozenset[str] | None:
    """Return the UUIDs of a GPU's MIG instances; None where it is not in MIG mode."""
    mode, pending = ctypes.c_uint(), ctypes.c_uint()
    status = nvml.nvmlDeviceGetMigMode(device, ctypes.byref(mode), ctypes.byref(pending))
    if status or mode.value != 1:  # a GPU that has no MIG, or does not tell
        return None
    slots, instance = ctypes.c_uint(), ctypes.c_void_p()
    if nvml.nvmlDeviceGetMaxMigDeviceCount(device, ctypes.byref(slots)):
        slots.value = _MIG_SLOTS
    found = set()
    for slot in range(slots.value):  # an empty slot is an error, and no instance
        if not nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, slot, ctypes.byref(instance)):
            with contextlib.suppress(OSError):
                found.add(uuid(nvml, instance))
    return frozenset(found)


def state(nvml: ctypes.CDLL, device: ctypes.c_void_p, *, vgpu: bool = False) -> GpuState:
    """Return how a GPU is; whether it is licensed is asked of a vGPU alone."""
    recoveries, recovery = fields(nvml, device, (_LINK_RECOVERIES, RECOVERY))
    rows = _told(lambda: _numbers(nvml.nvmlDeviceGetRemappedRows, device, 4))
    pages = _told(lambda: _numbers(nvml.nvmlDeviceGetRetiredPagesPendingStatus, device, 1))
    modes = _told(lambda: _numbers(nvml.nvmlDeviceGetPersistenceMode, device, 1))
    slowdown = _told(lambda: _bits(nvml.nvmlDeviceGetCurrentClocksEventReasons, device))
    if slowdown is None:  # the name of before driver 535
        slowdown = _told(lambda: _bits(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, device))
    pending = [*(rows[2:3] if rows else ()), *(pages or ())]  # of corrected, uncorrected, …
    return GpuState(
        recovery=recovery,
        remap_pending=any(pending) if pending else None,
        remap_failed=bool(rows[3]) if rows else None,
        link_recoveries=recoveries,
        slowdown=slowdown,
        persistence=bool(modes[0]) if modes else None,
        licensed=_told(lambda: _is_licensed(nvml, device)) if vgpu else None,
    )


def _is_licensed(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> bool | None:
    """Return whether a vGPU has the licence of any feature; None where it needs none."""
    found = _Licences()
    check(nvml.nvmlDeviceGetGridLicensableFeatures_v4(device, ctypes.byref(found)))
    states = [feature.state for feature in found.features[: found.count]]
    return any(states) if found.supported else None


def fields(
    nvml: ctypes.CDLL, device: ctypes.c_void_p, ids: Sequence[int]
) -> tuple[int | None, ...]:
    """Return the values of these fields; each has a code of its own."""
    asked = (_Field * len(ids))(*(_Field(id=id) for id in ids))
    if _told(lambda: nvml.nvmlDeviceGetFieldValues(device, len(ids), asked)) != 0:
        return (None,) * len(ids)
    return tuple(
        None if field.code else field.value & ((1 << _TYPE_BITS.get(field.type, 0)) - 1)
        for field in asked
    )


def check(status: int) -> None:
    if status:
        raise Refused(status)


def _numbers(function: _Function, device: ctypes.c_void_p, count: int) -> tuple[int, ...]:
    """Return what a function with so many `unsigned int *` tells."""
    found = [ctypes.c_uint() for _ in range(count)]
    check(function(device, *map(ctypes.byref, found)))
    return tuple(number.value for number in found)


def _bits(function: _Function, device: ctypes.c_void_p) -> int:
    found = ctypes.c_ulonglong()
    check(function(device, ctypes.byref(found)))
    return found.value


def _told(ask: Callable[[], T]) -> T | None:
    """Return what a device tells; None where it does not, or the driver has no such function."""
    with contextlib.suppress(OSError, AttributeError):
        return ask()
    return None
