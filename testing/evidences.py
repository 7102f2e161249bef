"""Evidence made of values, for the tests of what is judged from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.model.evidence import AS_GIVEN, CudaDevice, CudaTrial, Evidence, Library, TorchReport
from launcher.model.machine import DeviceNode, DriverFailure, Gpu, GpuReport, Hardware
from testing.machines import DEV, NO_LIBRARY, answering, cards, gpu, machine

NO_NVML = GpuReport(failure=NO_LIBRARY)


def healthy(count: int = 2, **changes: object) -> Evidence:
    """Return everything that the doctor collects of a box whose GPUs work."""
    return full(answering(*(gpu(index) for index in range(count))), cards(count), **changes)


def full(report: GpuReport, hardware: Hardware, **changes: object) -> Evidence:
    """Return evidence in which everything that is not in `report` and `hardware` is well."""
    report = report._replace(nodes=report.nodes or opened(hardware))
    found = Evidence(
        machine=machine(report, hardware),
        environ={"NVIDIA_VISIBLE_DEVICES": "all"},
        libraries=(real("libcuda.so.1"), real("libnvidia-ml.so.1")),
        trials=(works(report.gpus),) if report.gpus else (),
        torch=TorchReport(
            "ok", version="2.6.0+cu124", cuda="12.4", available=True, devices=len(report.gpus),
            arches=("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
            names=tuple(one.name for one in report.gpus),
        ) if report.gpus else None,
        user=DEV,
    )  # fmt: skip
    return found._replace(**changes)  # type: ignore[arg-type]


def cheap(
    report: GpuReport, hardware: Hardware, environ: Mapping[str, str] | None = None
) -> Evidence:
    """Return what a start collects: the machine, and nothing that takes time."""
    return Evidence(machine(report, hardware), dict(environ or {}))


def opened(hardware: Hardware, **faults: str) -> tuple[DeviceNode, ...]:
    """Return the device nodes as opening found them; `nvidiactl="EPERM"` makes that one fail."""
    return tuple(
        DeviceNode(path, faults.get(path.rpartition("/")[2].replace("-", "_"), ""))
        for path in hardware.device_nodes
    )


def real(name: str, version: str = "550.54.15") -> Library:
    folder, stem = "/usr/lib/x86_64-linux-gnu", name.removesuffix(".1")
    path, target = f"{folder}/{name}", f"{folder}/{stem}.{version}"
    return Library(name, path, "ld.so.cache", "real", version, target, taken=True)


def works(gpus: tuple[Gpu, ...], how: str = AS_GIVEN) -> CudaTrial:
    """Return a trial in which CUDA sees these GPUs."""
    devices = tuple(
        CudaDevice(index, one.uuid, one.name, one.compute_capability)
        for index, one in enumerate(gpus)
    )
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"
    return CudaTrial(how, "ok", library=library, driver_version=12040, devices=devices)


def fails(code: int, name: str, how: str = AS_GIVEN) -> CudaTrial:
    """Return a trial in which cuInit fails."""
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"
    return CudaTrial(how, "error", code, name, f"cuInit: {name}", library, 12040)


def nvml_fails(code: int, words: str) -> GpuReport:
    return GpuReport(failure=DriverFailure("nvml", words, code))


def ids(scenarios: Sequence[tuple[str, Evidence, str, str]]) -> list[str]:
    """Return the names of scenarios, for pytest."""
    return [name for name, *_ in scenarios]
