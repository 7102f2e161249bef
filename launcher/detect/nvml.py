"""Read GPUs from NVML; runs in a forked child.

NVML answers per field, not per device: one model has no MIG, another no dedicated memory or no
PCI address, and an old driver lacks whole symbols.  So a missing *field* is None, whatever the
code; a *device* without handle or UUID is a `LostGpu`, and a library that will not start is a
`DriverFailure`.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import pynvml

from launcher.detect.nvml_errors import field, is_not_supported
from launcher.detect.nvml_links import (
    Fabric,
    list_bits,
    read_fabric,
    read_field,
    read_nvlink_errors,
    read_nvlinks,
    read_pairs,
)
from launcher.model.machine import (
    DriverFailure,
    Gpu,
    GpuProcess,
    GpuReport,
    LostGpu,
    MigDevice,
)

_CPU_WORDS = 64  # of 64 CPUs: 4096 CPUs, more than the kernel's default NR_CPUS on any distribution
_MIG_SLOTS = 8  # of any GPU that has MIG, and does not say how many
# Of an empty slot; beyond the last; of a GPU whose mode was turned off meanwhile.
_NO_INSTANCE = (
    pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_NOT_SUPPORTED,
)  # fmt: skip
_NODE_WORDS = 16  # of 64 nodes: 1024, the most that the kernel can be built for (NODES_SHIFT)


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
        return GpuReport(failure=DriverFailure("nvml", _words(err), err.value))
    try:
        return _read_devices()
    except pynvml.NVMLError as err:
        return GpuReport(failure=DriverFailure("nvml", _words(err), err.value))
    finally:
        field(pynvml.nvmlShutdown)


def busiest() -> int:
    """Return the utilisation of the busiest GPU, in percent; 0 where none tells.

    NVML API Reference, nvmlDeviceGetUtilizationRates: not on MIG devices.
    """
    busy = [0]
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):
                device = pynvml.nvmlDeviceGetHandleByIndex(index)
                busy.append(int(pynvml.nvmlDeviceGetUtilizationRates(device).gpu))
    return max(busy)


def _words(err: pynvml.NVMLError) -> str:
    """Return the library's own words, as nvidia-smi prints them; pynvml has others for some codes.

    nvmlErrorString needs no nvmlInit (NVML API Reference).
    """
    try:
        return str(pynvml.nvmlErrorString(err.value))
    except pynvml.NVMLError:
        return str(err)


def _read_devices() -> GpuReport:
    gpus: list[Gpu] = []
    lost: list[LostGpu] = []
    handles: dict[int, Any] = {}
    fabrics: dict[int, Fabric] = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            fabric = read_fabric(handle)
            gpu = _read_gpu(index, handle, fabric)
            pynvml.nvmlDeviceGetUUID(handle)  # still: it may have gone while it was asked
            gpus.append(gpu)
            handles[index], fabrics[index] = handle, fabric
        except pynvml.NVMLError as err:  # one lost GPU must not hide its siblings
            lost.append(LostGpu(index=index, error=_words(err), code=err.value))
        except UnicodeDecodeError:
            lost.append(LostGpu(index, "its UUID is no text", pynvml.NVML_ERROR_CORRUPTED_INFOROM))
    cuda = field(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    return GpuReport(
        gpus=tuple(gpus),
        lost=tuple(lost),
        pairs=read_pairs(gpus, handles, fabrics),
        driver_version=field(pynvml.nvmlSystemGetDriverVersion),
        cuda_version=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
    )


def _read_gpu(index: int, device: Any, fabric: Fabric) -> Gpu:
    mig = field(lambda: pynvml.nvmlDeviceGetMigMode(device)[0] == 1)
    memory, holders = _read_memory(device), _list_processes(device)
    nvlinks, nvlink_version = read_nvlinks(device)
    instances, mig_fault = _mig_devices(device) if mig else ((), None)
    mode = field(lambda: pynvml.nvmlDeviceGetVirtualizationMode(device))
    vgpu = None if mode is None else mode == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    return Gpu(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(device),
        name=field(lambda: pynvml.nvmlDeviceGetName(device)) or "NVIDIA GPU",
        pci_bus_id=field(lambda: pynvml.nvmlDeviceGetPciInfo(device).busId) or None,
        memory_bytes=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        memory_shared=not memory and not mig and _shares_memory(device),
        memory_reserved=getattr(memory, "reserved", None),
        compute_capability=field(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(device)),
        mig_enabled=mig,
        mig_devices=instances,
        mig_fault=mig_fault,
        minor=field(lambda: pynvml.nvmlDeviceGetMinorNumber(device)),
        processes=None if holders is None else len(holders),
        holders=holders or (),
        compute_mode=field(lambda: pynvml.nvmlDeviceGetComputeMode(device)),
        pcie_width=field(lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(device)),
        pcie_width_max=field(lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(device)),
        pcie_generation_max=field(lambda: pynvml.nvmlDeviceGetMaxPcieLinkGeneration(device)),
        remap_pending=_remap_pending(device),
        remap_failed=field(lambda: bool(pynvml.nvmlDeviceGetRemappedRows(device)[3])),
        recovery=read_field(device, pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION),
        ecc_errors=_ecc_errors(device),
        slowdown=_slowdown(device),
        vgpu=vgpu,
        licensed=_is_licensed(device) if vgpu else None,
        persistence=field(lambda: pynvml.nvmlDeviceGetPersistenceMode(device) == 1),
        numa_node=_numa_node(device),
        cpus=field(lambda: list_bits(pynvml.nvmlDeviceGetCpuAffinity(device, _CPU_WORDS))),
        cpus_filtered=True,
        fabric=fabric.state,
        fabric_status=fabric.status,
        fabric_clique=fabric.domain[1] if fabric.domain else None,
        fabric_health=fabric.health,
        nvlinks=nvlinks,
        nvlink_version=nvlink_version,
        nvlink_errors=read_nvlink_errors(device) if nvlinks else None,
    )


def _read_memory(device: Any) -> Any:
    """Return NVML's memory info: total, free and reserved bytes.

    Drivers before 510 have its first version alone, which has no `reserved`: what the driver
    keeps to itself counts as used there (NVML API Reference, nvmlMemory_v2_t).
    """
    newer = field(lambda: pynvml.nvmlDeviceGetMemoryInfo(device, pynvml.nvmlMemory_v2))
    found = newer or field(lambda: pynvml.nvmlDeviceGetMemoryInfo(device))
    return found if found and found.total else None


def _shares_memory(device: Any) -> bool:
    """Return whether it is an integrated GPU: without memory, and without a link of its own.

    NVML says Not Supported of the memory of Jetsons and of a GB10, and of the PCIe link of both:
    the first has no address, the second one on the chip (leptonai/gpud#1170, nvitop#208).
    A total of nothing is no memory either.
    """
    memory = field(lambda: pynvml.nvmlDeviceGetMemoryInfo(device))
    none = is_not_supported(lambda: pynvml.nvmlDeviceGetMemoryInfo(device))
    none = none or bool(memory and not memory.total)
    return none and is_not_supported(lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(device))


def _list_processes(device: Any) -> tuple[GpuProcess, ...] | None:
    """Return what computes on it; drivers before 510 have the second version of this call."""
    found = field(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses_v3(device))
    if found is None:
        found = field(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses_v2(device))
    if found is None:
        return None
    return tuple(GpuProcess(int(one.pid), one.usedGpuMemory) for one in found)


def _numa_node(device: Any) -> int | None:
    """Return the node whose memory is local; a container's cpuset can make that several."""
    scope = pynvml.NVML_AFFINITY_SCOPE_NODE
    words = field(lambda: pynvml.nvmlDeviceGetMemoryAffinity(device, _NODE_WORDS, scope))
    nodes = list_bits(words or ())
    return int(nodes) if nodes.isdecimal() else None


def _remap_pending(device: Any) -> bool | None:
    """Return whether bad memory waits for a reset: rows on Ampere and later, pages before."""
    rows = field(lambda: pynvml.nvmlDeviceGetRemappedRows(device)[2])
    pages = field(lambda: pynvml.nvmlDeviceGetRetiredPagesPendingStatus(device))
    known = [value for value in (rows, pages) if value is not None]
    return any(known) if known else None


def _ecc_errors(device: Any) -> int | None:
    """Return how many errors ECC could not correct since the driver was loaded."""
    kind, counter = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
    return field(lambda: pynvml.nvmlDeviceGetTotalEccErrors(device, kind, counter))


def _is_licensed(device: Any) -> bool | None:
    """Return whether a vGPU has the licence of any of its features.

    NVML API Reference, nvmlGridLicensableFeature_t: featureState is non-zero where it has.
    """
    found = field(lambda: pynvml.nvmlDeviceGetGridLicensableFeatures_v4(device))
    if found is None or not found.isGridLicenseSupported:
        return None
    features = found.gridLicensableFeatures[: found.licensableFeaturesCount]
    return any(feature.featureState for feature in features)


def _slowdown(device: Any) -> int | None:
    """Return why the clocks are held down; drivers before 535 have the older name only."""
    newer = field(lambda: int(pynvml.nvmlDeviceGetCurrentClocksEventReasons(device)))
    if newer is not None:
        return newer
    return field(lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)))


def _mig_devices(device: Any) -> tuple[tuple[MigDevice, ...], int | None]:
    """Return the instances, and the code of one that is there and cannot be opened."""
    slots = field(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(device)) or _MIG_SLOTS
    found, fault = [], None
    for slot in range(slots):
        try:
            found.append(_read_mig(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(device, slot)))
        except pynvml.NVMLError as err:
            if err.value not in _NO_INSTANCE:
                fault = err.value
        except UnicodeDecodeError:
            fault = pynvml.NVML_ERROR_CORRUPTED_INFOROM
    return tuple(found), fault


def _read_mig(instance: Any) -> MigDevice:
    memory, holders = _read_memory(instance), _list_processes(instance)
    return MigDevice(
        uuid=pynvml.nvmlDeviceGetUUID(instance),
        name=field(lambda: pynvml.nvmlDeviceGetName(instance)) or "MIG",
        memory_bytes=memory.total if memory else None,
        memory_free=memory.free if memory else None,
        memory_reserved=getattr(memory, "reserved", None),
        processes=None if holders is None else len(holders),
        holders=holders or (),
        gpu_instance=field(lambda: pynvml.nvmlDeviceGetGpuInstanceId(instance)),
        compute_instance=field(lambda: pynvml.nvmlDeviceGetComputeInstanceId(instance)),
    )
