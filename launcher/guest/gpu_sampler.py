"""Print what the GPUs do, one JSON line every two seconds, until standard input ends.

`python -I -S gpu_sampler.py` belongs to the page about the box.  It asks NVML by ctypes alone: a
driver that hangs or crashes takes this process, and nothing else.  What a device does not tell is
null.  Functions, structures and codes: NVML API Reference.
"""

from __future__ import annotations

import ctypes
import json
import resource
import select
import signal
import sys
from typing import Any

INTERVAL = 2.0  # seconds between two samples
RETRY = 10.0  # seconds until a driver that cannot be loaded is tried again
_PR_SET_PDEATHSIG = 1  # prctl(2)
_FILES = 65536
_TEMPERATURE_GPU = 0  # nvmlTemperatureSensors_t
_NAME, _UUID = 96, 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE, NVML_DEVICE_UUID_V2_BUFFER_SIZE


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    """nvmlMemory_t, bytes."""

    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


class Failed(Exception):
    """An NVML function that did not return NVML_SUCCESS; says why."""


class Nvml:
    """The driver's library, initialised.  Raises Failed."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError as err:
            raise Failed(str(err)) from None
        self._call("nvmlInit_v2")

    def sample(self) -> list[dict[str, Any]]:
        count = ctypes.c_uint()
        self._call("nvmlDeviceGetCount_v2", ctypes.byref(count))
        return [self._device(index) for index in range(count.value)]

    def _device(self, index: int) -> dict[str, Any]:
        device = ctypes.c_void_p()
        try:
            self._call("nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(device))
        except Failed as err:
            return {"index": index, "fault": str(err)}
        used = self._ask("nvmlDeviceGetUtilizationRates", device, _Utilization())
        memory = self._ask("nvmlDeviceGetMemoryInfo", device, _Memory())
        milliwatts = self._number("nvmlDeviceGetPowerUsage", device)
        limit = self._number("nvmlDeviceGetEnforcedPowerLimit", device)
        return {
            "index": index,
            "name": self._text("nvmlDeviceGetName", device, _NAME),
            "uuid": self._text("nvmlDeviceGetUUID", device, _UUID),
            "utilization": used.gpu if used else None,  # percent
            "memory_used": memory.used if memory else None,  # bytes
            "memory_total": memory.total if memory else None,
            "temperature": self._number("nvmlDeviceGetTemperature", device, _TEMPERATURE_GPU),  # °C
            "power": None if milliwatts is None else milliwatts / 1000,  # W
            "power_limit": None if limit is None else limit / 1000,
            "fault": None,
        }

    def _ask(self, function: str, device: ctypes.c_void_p, result: Any, *options: int) -> Any:
        """Return `result`, filled; None where this device or this driver does not tell."""
        try:
            self._call(function, device, *options, ctypes.byref(result))
        except Failed:
            return None
        return result

    def _number(self, function: str, device: ctypes.c_void_p, *options: int) -> int | None:
        found = self._ask(function, device, ctypes.c_uint(), *options)
        return None if found is None else int(found.value)

    def _text(self, function: str, device: ctypes.c_void_p, size: int) -> str | None:
        buffer = ctypes.create_string_buffer(size)
        try:
            self._call(function, device, buffer, size)
        except Failed:
            return None
        return buffer.value.decode(errors="replace")

    def _call(self, function: str, *arguments: Any) -> None:
        try:
            code = getattr(self._library, function)(*arguments)
        except AttributeError:
            raise Failed(f"the driver has no {function}") from None
        if code:
            raise Failed(self._words(code))

    def _words(self, code: int) -> str:
        try:
            say = self._library.nvmlErrorString
        except AttributeError:
            return f"NVML {code}"
        say.restype = ctypes.c_char_p
        return f"NVML {code}: {(say(code) or b'').decode(errors='replace')}"


def limit_files() -> None:
    """Let the driver close no thousand million files that might be open (process/fork)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))


def main() -> None:
    limit_files()
    # Whoever asked is gone: a driver that hangs is not waited for.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    nvml = None
    while True:
        try:
            nvml = nvml or Nvml()
            said: dict[str, Any] = {"gpus": nvml.sample(), "fault": None}
        except Failed as err:
            nvml, said = None, {"gpus": [], "fault": str(err)}
        print(json.dumps(said), flush=True)
        if select.select([sys.stdin], [], [], INTERVAL if nvml else RETRY)[0]:
            return


if __name__ == "__main__":
    main()
