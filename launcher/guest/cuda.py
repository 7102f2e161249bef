"""Initialise CUDA as a program would, and print what happened as one JSON line.

`python -I -S cuda.py [LIBRARY]` loads libcuda.so.1 as the loader finds it, or the file LIBRARY.
It never opens a context: that would take hundreds of megabytes of a GPU that is in use.
Function names and codes: CUDA Driver API, "Initialization", "Device Management", CUresult.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

# A stub library fails every call, those that name errors too, and an old one knows fewer names.
NAMES = {
    1: "CUDA_ERROR_INVALID_VALUE",
    2: "CUDA_ERROR_OUT_OF_MEMORY",
    3: "CUDA_ERROR_NOT_INITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE",
    101: "CUDA_ERROR_INVALID_DEVICE",
    102: "CUDA_ERROR_DEVICE_NOT_LICENSED",
    214: "CUDA_ERROR_ECC_UNCORRECTABLE",
    304: "CUDA_ERROR_OPERATING_SYSTEM",
    800: "CUDA_ERROR_NOT_PERMITTED",
    801: "CUDA_ERROR_NOT_SUPPORTED",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    805: "CUDA_ERROR_MPS_CONNECTION_FAILED",
    806: "CUDA_ERROR_MPS_RPC_FAILURE",
    807: "CUDA_ERROR_MPS_SERVER_NOT_READY",
    808: "CUDA_ERROR_MPS_MAX_CLIENTS_REACHED",
    809: "CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED",
    810: "CUDA_ERROR_MPS_CLIENT_TERMINATED",
    999: "CUDA_ERROR_UNKNOWN",
}

# CUdevice_attribute
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_GPU_DIRECT_RDMA, _DMA_BUF = 116, 124  # of CUDA 11.3 and 11.7
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Failed(Exception):
    """A CUDA function that did not return CUDA_SUCCESS."""

    def __init__(self, function: str, code: int) -> None:
        super().__init__(function, code)
        self.function = function
        self.code = code


def try_cuda(library: str) -> dict[str, object]:
    """Return what loading CUDA, initialising it and counting devices did."""
    try:
        cuda = ctypes.CDLL(library)
        _ = cuda.cuInit
    except (OSError, AttributeError) as err:  # AttributeError: it is no libcuda
        return {"outcome": "library", "reason": str(err)}
    facts = {"library": _file_of(cuda.cuInit), "driver_version": _version(cuda)}
    try:
        _call(cuda, "cuInit", 0)
        count = ctypes.c_int()
        _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    except Failed as err:
        name = _words(cuda, "cuGetErrorName", err.code) or NAMES.get(err.code)
        words = _words(cuda, "cuGetErrorString", err.code) or name or f"error {err.code}"
        reason = f"{err.function}: {words}"
        return {"outcome": "error", "code": err.code, "name": name, "reason": reason, **facts}
    return {"outcome": "ok", "devices": list(_devices(cuda, count.value)), **facts}


def _call(cuda: Any, function: str, *arguments: Any) -> None:
    if code := getattr(cuda, function)(*arguments):
        raise Failed(function, code)


def _version(cuda: Any) -> int | None:
    version = ctypes.c_int()
    code = cuda.cuDriverGetVersion(ctypes.byref(version))
    return None if code else version.value


def _words(cuda: Any, function: str, code: int) -> str | None:
    text = ctypes.c_char_p()
    failed = getattr(cuda, function)(code, ctypes.byref(text))
    return None if failed or not text.value else text.value.decode(errors="replace")


# --- devices -----------------------------------------------------------------------------------


def _devices(cuda: Any, count: int) -> Iterator[dict[str, object]]:
    for index in range(count):
        device = ctypes.c_int()
        known = not cuda.cuDeviceGet(ctypes.byref(device), index)
        name = _name(cuda, device) if known else None
        yield {
            "index": index,
            "uuid": _uuid(cuda, device, name or "") if known else None,
            "name": name,
            "capability": _capability(cuda, device) if known else None,
            "pci_bus_id": _pci_bus_id(cuda, device) if known else None,
            "gpudirect": _can(cuda, _GPU_DIRECT_RDMA, device) if known else None,
            "dma_buf": _can(cuda, _DMA_BUF, device) if known else None,
        }


def _name(cuda: Any, device: ctypes.c_int) -> str | None:
    name = ctypes.create_string_buffer(256)
    failed = cuda.cuDeviceGetName(name, len(name), device)
    return None if failed else name.value.decode(errors="replace")


def _pci_bus_id(cuda: Any, device: ctypes.c_int) -> str | None:
    """Return the address; of a MIG instance that of its GPU."""
    if not hasattr(cuda, "cuDeviceGetPCIBusId"):
        return None
    address = ctypes.create_string_buffer(32)
    failed = cuda.cuDeviceGetPCIBusId(address, len(address), device)
    return None if failed else address.value.decode(errors="replace")


def _uuid(cuda: Any, device: ctypes.c_int, name: str) -> str | None:
    """Return the UUID as nvidia-smi writes it.

    CUDA gives 16 bytes and no prefix.  Of a MIG instance cuDeviceGetUuid_v2 (CUDA 11.4) gives
    the instance's own, cuDeviceGetUuid its GPU's; its name says MIG with every driver.
    """
    first = _uuid_bytes(cuda, "cuDeviceGetUuid", device)
    own = _uuid_bytes(cuda, "cuDeviceGetUuid_v2", device) or first
    if own is None:
        return None
    mig = " MIG " in name or (first is not None and first != own)
    digits = own.hex()
    groups = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    return "-".join(("MIG" if mig else "GPU", *groups))


def _uuid_bytes(cuda: Any, function: str, device: ctypes.c_int) -> bytes | None:
    if not hasattr(cuda, function):
        return None
    uuid = ctypes.create_string_buffer(16)
    return None if getattr(cuda, function)(uuid, device) else uuid.raw


def _capability(cuda: Any, device: ctypes.c_int) -> tuple[int, int] | None:
    major, minor = ctypes.c_int(), ctypes.c_int()
    for value, attribute in ((major, _CAPABILITY_MAJOR), (minor, _CAPABILITY_MINOR)):
        if cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
            return None
    return major.value, minor.value


def _can(cuda: Any, attribute: int, device: ctypes.c_int) -> bool | None:
    """Return an ability; None where the driver is older than the question."""
    value = ctypes.c_int()
    failed = cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return None if failed else bool(value.value)


# --- the library's file --------------------------------------------------------------------------


def _file_of(function: Any) -> str | None:
    """Return the file that a function was mapped from: /proc/self/maps, proc_pid_maps(5)."""
    address = ctypes.cast(function, ctypes.c_void_p).value or 0
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, _, _, _, _, *path = line.rstrip("\n").split(maxsplit=5)
            begin, _, end = span.partition("-")
            if int(begin, 16) <= address < int(end, 16):
                return path[0] if path else None
    return None


if __name__ == "__main__":
    # Whoever asks may be killed, and a driver that hangs would keep us for ever.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    answer = try_cuda(sys.argv[1] if len(sys.argv) > 1 else "libcuda.so.1")
    print(f"\n{json.dumps(answer)}", flush=True)  # a library may have printed half a line
    os._exit(0)  # what a driver library does at exit is not asked
