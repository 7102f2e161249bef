"""NVML by ctypes alone, for the GPU sampler; what a device does not tell is None.

Functions, structures and codes: NVML API Reference; the ids of fields: nvml.h, NVML_FI_DEV_*.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

_TEXT = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE, NVML_DEVICE_UUID_V2_BUFFER_SIZE
_LOST, _RESET_REQUIRED = 15, 16  # nvmlReturn_t
_ALL_LINKS = 0xFFFFFFFF
_MOST_PROCESSES = 64
NO_MIG = 0xFFFFFFFF


class Utilization(ctypes.Structure):
    """nvmlUtilization_t, percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Memory(ctypes.Structure):
    """nvmlMemory_t, bytes."""

    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))
    reserved = None  # it counts as used


class Memory2(ctypes.Structure):
    """nvmlMemory_v2_t, bytes: what the driver keeps to itself does not count as used."""

    _fields_ = (
        ("version", ctypes.c_uint),
        *((name, ctypes.c_ulonglong) for name in ("total", "reserved", "free", "used")),
    )


class Pci(ctypes.Structure):
    """nvmlPciInfo_t."""

    _fields_ = (
        ("legacy", ctypes.c_char * 16),
        *((name, ctypes.c_uint) for name in ("domain", "bus", "device", "id", "subsystem")),
        ("bus_id", ctypes.c_char * 32),
    )


class Process(ctypes.Structure):
    """nvmlProcessInfo_t, as its function has had it since version 2; bytes."""

    _fields_ = (
        ("pid", ctypes.c_uint),
        ("memory", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint),
        ("compute_instance", ctypes.c_uint),
    )


class Field(ctypes.Structure):
    """nvmlFieldValue_t; its value is a union of eight bytes."""

    _fields_ = (
        ("id", ctypes.c_uint),
        ("scope", ctypes.c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency", ctypes.c_longlong),
        ("type", ctypes.c_uint),
        ("code", ctypes.c_int),
        ("value", ctypes.c_ulonglong),
    )


# nvmlValueType_t: how much of the union counts; no field that is asked for is a double or signed.
_MASKS = {1: 0xFFFFFFFF, 2: 0xFFFFFFFFFFFFFFFF, 3: 0xFFFFFFFFFFFFFFFF}


class Failed(Exception):
    """An NVML function that did not return NVML_SUCCESS; says why."""


class Lost(Failed):
    """The GPU does not answer any more."""


class Nvml:
    """The driver's library, initialised.  Raises Failed."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as err:
            raise Failed(str(err)) from None
        self.call("nvmlInit_v2")

    def count(self) -> int:
        count = ctypes.c_uint()
        self.call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return count.value

    def device(self, index: int) -> ctypes.c_void_p:
        """Return a handle.  Raises Failed where the GPU is lost, or not ours to open."""
        device = ctypes.c_void_p()
        self.call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(device))
        return device

    def instance(self, device: ctypes.c_void_p, index: int) -> ctypes.c_void_p | None:
        """Return the handle of a MIG instance, or None where there is none of that number."""
        found = ctypes.c_void_p()
        return self.ask("nvmlDeviceGetMigDeviceHandleByIndex", device, found, index) and found

    def ask(self, function: str, device: ctypes.c_void_p, result: Any, *options: Any) -> Any:
        """Return `result`, filled; None where this device or this driver does not tell.

        Raises Lost.
        """
        try:
            self.call(function, device, *options, ctypes.byref(result))
        except Lost:
            raise
        except Failed:
            return None
        return result

    def number(self, function: str, device: ctypes.c_void_p, *options: int) -> int | None:
        found = self.ask(function, device, ctypes.c_uint(), *options)
        return None if found is None else int(found.value)

    def text(self, function: str, device: ctypes.c_void_p) -> str | None:
        buffer = ctypes.create_string_buffer(_TEXT)
        try:
            self.call(function, device, buffer, _TEXT)
        except Failed:
            return None
        return buffer.value.decode(errors="replace")

    def driver_version(self) -> str | None:
        buffer = ctypes.create_string_buffer(_TEXT)
        try:
            self.call("nvmlSystemGetDriverVersion", buffer, _TEXT)
        except Failed:
            return None
        return buffer.value.decode(errors="replace")

    def memory(self, device: ctypes.c_void_p) -> Any:
        """Return what the device's memory holds, as a Memory2 or Memory, or None."""
        asked = Memory2(version=ctypes.sizeof(Memory2) | 2 << 24)
        return self.ask("nvmlDeviceGetMemoryInfo_v2", device, asked) or self.ask(
            "nvmlDeviceGetMemoryInfo", device, Memory()
        )

    def fields(self, device: ctypes.c_void_p, ids: Sequence[int]) -> list[int | None]:
        """Return the counters of these ids, over all links where they count links: in one call."""
        asked = (Field * len(ids))(*(Field(id=id, scope=_ALL_LINKS) for id in ids))
        try:
            self.call("nvmlDeviceGetFieldValues", device, len(ids), asked)
        except Lost:
            raise
        except Failed:
            return [None] * len(ids)
        return [
            None if each.code or each.type not in _MASKS else each.value & _MASKS[each.type]
            for each in asked
        ]

    def processes(self, device: ctypes.c_void_p) -> list[Process]:
        """Return who computes there: pids as the driver counts them."""
        found = (Process * _MOST_PROCESSES)()
        for version in ("_v3", "_v2"):
            count = ctypes.c_uint(_MOST_PROCESSES)
            name = f"nvmlDeviceGetComputeRunningProcesses{version}"
            if self.ask(name, device, found, ctypes.byref(count)):
                return list(found[: min(count.value, _MOST_PROCESSES)])
        return []

    def call(self, function: str, *arguments: Any) -> None:
        """Raises Failed."""
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError:
            raise Failed(f"the driver has no {function}") from None
        if code:
            raise (Lost if code in (_LOST, _RESET_REQUIRED) else Failed)(self._words(code))

    def _words(self, code: int) -> str:
        try:
            say = self._library.nvmlErrorString
        except AttributeError:
            return f"NVML {code}"
        say.restype = ctypes.c_char_p
        return f"NVML {code}: {(say(code) or b'').decode(errors='replace')}"
