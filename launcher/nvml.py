"""Read GPUs from NVML.  The only module that imports pynvml; runs in a forked child.

NVML answers per field, not per device: one model has no MIG, another no dedicated memory,
and an old driver lacks whole symbols.  So a missing *field* is None, a missing *device* is
a `LostGpu`, and a library that will not start is a `DriverFailure`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import pynvml

from launcher.model import DriverFailure, Gpu, GpuReport, LostGpu

T = TypeVar("T")

# "This device or driver has no such field", as opposed to "something is broken".
_ABSENT = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_DATA,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
}


def read_report() -> GpuReport:
    """Return everything NVML says.  May hang or crash with the driver library."""
    try:
        # pynvml turns every dlopen failure into "library not found"; the loader says why.
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as err:
        return GpuReport(failure=DriverFailure("library", str(err)))
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as err:
        return GpuReport(failure=DriverFailure("nvml", str(err), err.value))
    try:
        devices = [_read_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        cuda = _field(pynvml.nvmlSystemGetCudaDriverVersion_v2)
        return GpuReport(
            gpus=tuple(d for d in devices if isinstance(d, Gpu)),
            lost=tuple(d for d in devices if isinstance(d, LostGpu)),
            driver_version=_field(pynvml.nvmlSystemGetDriverVersion),
            cuda_version=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
        )
    except pynvml.NVMLError as err:
        return GpuReport(failure=DriverFailure("nvml", str(err), err.value))
    finally:
        pynvml.nvmlShutdown()


def _read_gpu(index: int) -> Gpu | LostGpu:
    try:
        device = pynvml.nvmlDeviceGetHandleByIndex(index)
        mig = _field(lambda: pynvml.nvmlDeviceGetMigMode(device)[0] == 1)
        return Gpu(
            index=index,
            uuid=pynvml.nvmlDeviceGetUUID(device),
            name=pynvml.nvmlDeviceGetName(device),
            pci_bus_id=pynvml.nvmlDeviceGetPciInfo(device).busId,
            memory_bytes=_field(lambda: pynvml.nvmlDeviceGetMemoryInfo(device).total),
            compute_capability=_field(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(device)),
            mig_enabled=mig,
            mig_uuids=tuple(_mig_uuids(device)) if mig else (),
        )
    except pynvml.NVMLError as err:  # one lost GPU must not hide its siblings
        return LostGpu(index=index, error=str(err), code=err.value)


def _mig_uuids(device: Any) -> list[str]:
    instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex
    slots = _field(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(device)) or 0
    handles = [_field(partial(instance, device, slot)) for slot in range(slots)]
    return [pynvml.nvmlDeviceGetUUID(handle) for handle in handles if handle is not None]


def _field(read: Callable[[], T]) -> T | None:
    """Return read(), or None where the device or the driver has no such field."""
    try:
        return read()
    except pynvml.NVMLError as err:
        if err.value in _ABSENT:
            return None
        raise
