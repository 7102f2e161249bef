"""This machine as a description for the simulated driver: a bug report becomes a test.  Pure.

The format is that of sim/README.md.  What identifies a machine is left out (serial numbers,
host names) or made up (UUIDs, process ids); PCI addresses stay, since NVLinks are told by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from launcher.model.machine import DriverFailure, Gpu, GpuReport, LostGpu, MigDevice, Pair

_TITLE = "# Recorded by `launcher record`.  UUIDs and process ids are made up.\n"
_COMPUTE_MODES = ("default", "exclusive-thread", "prohibited", "exclusive-process")
_RECOVERIES = (
    "none", "gpu-reset", "node-reboot", "drain-p2p", "drain-and-reset", "recover-imex-domain",
    "bus-reset", "system-reboot",
)  # fmt: skip
_STATES = {4: "no-permission", 15: "lost"}  # of a GPU without a handle, by nvmlReturn_t
_NOT_SUPPORTED = 3
_MIG_SLOTS = 7  # of every GPU that has MIG

Line = tuple[str, str]
Section = tuple[str, list[Line]]
T = TypeVar("T")


def describe(report: GpuReport, kernel_driver: str | None = None) -> str:
    """Return the description; `kernel_driver` is the version of the loaded kernel module."""
    sections = [
        ("machine", list(_machine(report, kernel_driver))),
        *_gpus(report),
        *_matrices(report),
        ("faults", list(_faults(report))),
    ]
    failure = report.failure
    unloaded = f"# The driver library does not load: {failure.reason}\n" if failure else ""
    title = _TITLE + (unloaded if failure and failure.kind == "library" else "")
    return title + "".join(
        f"\n[{name}]\n" + "".join(f"{key} = {value}".rstrip() + "\n" for key, value in lines)
        for name, lines in sections
        if lines or name.startswith("gpu")
    )


def _machine(report: GpuReport, kernel_driver: str | None) -> Iterator[Line]:
    if report.driver_version:
        yield "driver_version", report.driver_version
    if kernel_driver and kernel_driver != report.driver_version:
        yield "kernel_module_version", kernel_driver
    if report.cuda_version:
        yield "cuda_version", "{}.{}".format(*report.cuda_version)


def _gpus(report: GpuReport) -> Iterator[Section]:
    """Yield a section for each GPU; what all that answer have in common comes first, once."""
    said = {gpu.index: list(_gpu(gpu)) for gpu in report.gpus}
    shared: list[Line] = []
    if len(said) > 1:
        first, *others = said.values()
        shared = [line for line in first if all(line in lines for lines in others)]
        yield "gpu *", shared
    for index, gpu in _everyone(report).items():
        if isinstance(gpu, LostGpu):
            yield f"gpu {index}", [("state", _STATES.get(gpu.code, "ok"))]
            continue
        yield f"gpu {index}", [line for line in said[index] if line not in shared]
        for slot, mig in enumerate(gpu.mig_devices):
            yield f"gpu {index} mig {slot}", list(_mig(gpu, slot, mig))


def _everyone(report: GpuReport) -> dict[int, Gpu | LostGpu]:
    both: tuple[Gpu | LostGpu, ...] = (*report.gpus, *report.lost)
    return {gpu.index: gpu for gpu in sorted(both, key=lambda gpu: gpu.index)}


def _gpu(gpu: Gpu) -> Iterator[Line]:
    yield "name", gpu.name
    yield "uuid", _made_up_uuid(gpu)
    yield from _given("pci_bus_id", gpu.pci_bus_id, _long)
    yield from _given("minor_number", gpu.minor)
    if gpu.compute_capability:
        yield "compute_capability", "{}.{}".format(*gpu.compute_capability)
    if not gpu.memory_shared:  # or it is this machine's
        yield from _given("memory_total", gpu.memory_bytes, _bytes)
        yield from _given("memory_used", gpu.memory_used, _bytes)
        yield from _given("memory_reserved", gpu.memory_reserved, _bytes)
    yield from _given("mig_mode", gpu.mig_enabled, _enabled)
    if gpu.mig_enabled:
        yield "mig_max_devices", str(_MIG_SLOTS)
    yield from _given("compute_mode", gpu.compute_mode, _COMPUTE_MODES.__getitem__)
    yield from _given("pcie_width", gpu.pcie_width)
    yield from _given("pcie_width_max", gpu.pcie_width_max)
    yield from _given("pcie_generation_max", gpu.pcie_generation_max)
    # Cards with rows to remap tell both; older ones retire pages, and tell what is pending.
    if gpu.remap_failed is None:
        yield from _given("retired_pages_pending", gpu.remap_pending, _yes)
    else:
        yield "remapped_rows_corrected", "0"
        yield "remapped_rows_pending", _yes(bool(gpu.remap_pending))
        yield "remapped_rows_failure", _yes(gpu.remap_failed)
    if gpu.recovery is not None and gpu.recovery < len(_RECOVERIES):
        yield "recovery_action", _RECOVERIES[gpu.recovery]
    yield from _given("ecc_volatile_uncorrected", gpu.ecc_errors)
    yield from _given("clocks_event_reasons", gpu.slowdown, hex)
    yield from _given("virtualization_mode", gpu.vgpu, lambda vgpu: "vgpu" if vgpu else "none")
    yield from _given(
        "grid_license", gpu.licensed, lambda told: "licensed" if told else "unlicensed"
    )
    yield from _given("persistence_mode", gpu.persistence, _enabled)
    yield from _given("numa_node", gpu.numa_node)
    yield from _given("memory_affinity", gpu.numa_node)
    yield from _given("cpu_affinity", gpu.cpus)
    yield from _given("fabric_state", gpu.fabric, lambda state: state.replace(" ", "-"))
    yield from _given("fabric_status", gpu.fabric_status)
    yield from _given("fabric_clique_id", gpu.fabric_clique)
    yield from _given("fabric_health_mask", gpu.fabric_health, hex)
    yield from _nvlinks(gpu)
    if gpu.nvlink_errors:
        yield "link_recovery_errors", str(gpu.nvlink_errors.recoveries)
        yield from _given("link_replay_errors", gpu.nvlink_errors.replays)
        yield from _given("link_crc_errors", gpu.nvlink_errors.crc)
    yield from _holders(gpu, 1000)


def _mig(gpu: Gpu, slot: int, mig: MigDevice) -> Iterator[Line]:
    yield "name", mig.name
    yield "uuid", _made_up_mig_uuid(gpu, slot, mig)
    yield from _given("gpu_instance", mig.gpu_instance)
    yield from _given("compute_instance", mig.compute_instance)
    yield from _given("memory_total", mig.memory_bytes, _bytes)
    yield from _given("memory_used", mig.memory_used, _bytes)
    yield from _given("memory_reserved", mig.memory_reserved, _bytes)
    yield from _holders(mig, 2000)


def _holders(device: Gpu | MigDevice, first_pid: int) -> Iterator[Line]:
    for number, holder in enumerate(device.holders):
        memory = _given("memory", holder.memory_bytes, _bytes)
        yield "process", ", ".join([f"pid {first_pid + number}", *map(" ".join, memory)])


def _given(key: str, value: T | None, write: Callable[[T], str] = str) -> Iterator[Line]:
    """What the machine does not say is left out, and the simulated one will not say it either."""
    if value is not None:
        yield key, write(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _enabled(value: bool) -> str:
    return "enabled" if value else "disabled"


def _bytes(count: int) -> str:
    return f"{count >> 20} MiB" if count % (1 << 20) == 0 else f"{count} B"


def _nvlinks(gpu: Gpu) -> Iterator[Line]:
    number = 0
    for links in gpu.nvlinks:
        numbers = f"{number}-{number + links.count - 1}" if links.count > 1 else f"{number}"
        words = ["disabled"]
        if links.to:
            version = [f"version {gpu.nvlink_version}"] if gpu.nvlink_version else []
            end = f"{links.to} {_long(links.pci_bus_id)}" if links.pci_bus_id else links.to
            words = ["enabled", *version, end, "p2p"]
        yield f"nvlink {numbers}", ", ".join(words)
        number += links.count


def _made_up_uuid(gpu: Gpu) -> str:
    return f"GPU-{gpu.index:08x}-0000-4000-8000-000000000000"


def _made_up_mig_uuid(gpu: Gpu, slot: int, mig: MigDevice) -> str:
    if mig.uuid.startswith("MIG-GPU-"):  # as drivers before R470 wrote them
        return f"MIG-{_made_up_uuid(gpu)}/{mig.gpu_instance}/{mig.compute_instance}"
    return f"MIG-{gpu.index:04x}{slot:04x}-0000-4000-8000-000000000000"


def _long(bus_id: str) -> str:
    """Return a PCI address with a domain of eight digits, as NVML prints them."""
    domain, _, rest = bus_id.partition(":")
    return f"{domain:0>8}:{rest}"


def _matrices(report: GpuReport) -> Iterator[Section]:
    if not report.pairs:
        return
    yield "pcie", _rows(report, lambda pair: pair.path)
    yield "p2p read", _rows(report, lambda pair: pair.p2p)
    yield "p2p nvlink", _rows(report, lambda pair: "OK" if pair.nvlinks else "NS")


def _rows(report: GpuReport, word: Callable[[Pair], str | None]) -> list[Line]:
    words = {(pair.a, pair.b): word(pair) or "?" for pair in report.pairs}
    words |= {(b, a): cell for (a, b), cell in words.items()}
    everyone = _everyone(report)
    return [
        (str(a), " ".join("X" if a == b else words.get((a, b), "?") for b in everyone))
        for a in everyone
    ]


def _faults(report: GpuReport) -> Iterator[Line]:
    match report.failure:
        case DriverFailure(kind="hung"):
            yield "nvmlInit", "hang"
        case DriverFailure(kind="crashed"):
            yield "nvmlInit", "crash"
        case DriverFailure(code=int(code)):
            yield "nvmlInit", f"return {code}"
    for lost in report.lost:
        if lost.code not in _STATES:
            yield f"nvmlDeviceGetHandleByIndex gpu {lost.index}", f"return {lost.code}"
    for gpu in report.gpus:
        if gpu.mig_fault is not None and not gpu.mig_devices:
            name = f"nvmlDeviceGetMigDeviceHandleByIndex gpu {gpu.index}"
            yield name, f"return {gpu.mig_fault}"
        if gpu.processes is None:
            name = f"nvmlDeviceGetComputeRunningProcesses gpu {gpu.index}"
            yield name, f"return {_NOT_SUPPORTED}"
