"""What the doctor looks at, as values: every fact is collected before anything is judged.

A start collects the cheap half (the machine); `doctor/collect` adds the libraries, the trials of
CUDA and what PyTorch did.  What was not collected is empty or None, and no check may guess from
that.
"""

from __future__ import annotations

from launcher.model.collective import Collective
from launcher.model.host import Account
from launcher.model.machine import Gpu, GpuReport, Hardware, Limits, LostGpu, Machine
from launcher.model.named_tuple import NamedTuple
from launcher.model.network import Rdma

AS_GIVEN = "as given"
NO_MASKS = "without masks"
NO_MPS = "without MPS"
OWN_LIBRARY = "with the driver's own library"
CLEAN = "with nothing in the way"


class Library(NamedTuple):
    """One file that the dynamic loader could take for `name`, in the order it would look."""

    name: str  # "libcuda.so.1" | "libnvidia-ml.so.1", or without the 1: what a linker takes
    path: str
    source: str  # "LD_PRELOAD" | "LD_LIBRARY_PATH" | "ld.so.cache" | "default directory"
    kind: str  # "real" | "stub" | "compat" | "wsl" | "dangling" | "empty"
    version: str | None = None  # "550.54.15", from the name of the file behind the links
    target: str | None = None  # that file; of a dangling link, where it points
    taken: bool = False  # the loader takes this one


class CudaDevice(NamedTuple):
    """One device that cuInit and cuDeviceGet gave."""

    index: int  # type: ignore[assignment]
    uuid: str | None  # "GPU-…" or "MIG-…"
    name: str | None
    capability: tuple[int, int] | None
    pci_bus_id: str | None = None
    gpudirect: bool | None = None  # network cards may reach its memory; None = not said
    dma_buf: bool | None = None  # … by dma-buf


class CudaTrial(NamedTuple):
    """One run of cuInit and cuDeviceGetCount in a process of its own."""

    how: str  # AS_GIVEN, NO_MASKS …
    outcome: str  # "ok" | "error" | "library" | "hung" | "crashed"
    code: int | None = None  # CUresult of what failed, where outcome is "error"
    name: str | None = None  # "CUDA_ERROR_SYSTEM_NOT_READY"
    reason: str = ""  # the exact string: of the loader, the driver, or how the process ended
    library: str | None = None  # the file that was mapped as libcuda
    driver_version: int | None = None  # cuDriverGetVersion: 12040
    devices: tuple[CudaDevice, ...] = ()
    left_out: tuple[str, ...] = ()  # variables and directories that AS_GIVEN had


class ImageTorch(NamedTuple):
    """The PyTorch that the image was built with."""

    version: str  # "2.6.0"
    prefix: str  # of the environment that it is in
    beside: tuple[tuple[str, str], ...] = ()  # ("torchvision", "0.21.0"): what it was built with


class Beside(NamedTuple):
    """A package beside PyTorch that fits one of its versions alone."""

    name: str  # "torchvision" | "torchaudio"
    version: str
    place: str  # the folder of packages that it is in
    torch: str | None = None  # the version that it asks for


class TorchFailure(NamedTuple):
    """A device on which PyTorch could not compute."""

    index: int  # type: ignore[assignment]
    message: str  # the first line
    code: int | None = None  # cudaError_t, where PyTorch says it


class TorchReport(NamedTuple):
    """What the user's own PyTorch did, in a process of its own."""

    outcome: str  # "ok" | "missing" | "broken" | "hung" | "crashed"
    error: str | None = None  # of the import, of CUDA's initialisation, or how the process ended
    error_code: int | None = None  # cudaError_t in `error`
    origin: str | None = None  # the file that `import torch` takes
    version: str | None = None
    cuda: str | None = None  # "12.4"; None = built without
    hip: str | None = None
    arches: tuple[str, ...] = ()  # "sm_90", "compute_90"
    available: bool | None = None  # torch.cuda.is_available()
    warnings: tuple[str, ...] = ()
    devices: int = 0  # torch.cuda.device_count()
    names: tuple[str, ...] = ()
    failures: tuple[TorchFailure, ...] = ()
    how: str = AS_GIVEN  # the environment it ran in, as of a CudaTrial
    beside: tuple[Beside, ...] = ()


class Evidence(NamedTuple):
    """Everything that the checks may look at."""

    machine: Machine
    environ: dict[str, str]  # the user's environment, those variables that matter (collect)
    libraries: tuple[Library, ...] = ()
    trials: tuple[CudaTrial, ...] = ()  # AS_GIVEN first; others only where it was not well
    torch: TorchReport | None = None
    image_torch: ImageTorch | None = None  # None = not an image of ours, or it was not looked up
    worked_before: bool = False  # this box had usable GPUs when it started
    user: Account | None = None  # who the user's programs run as; None = who collected this
    cpu_only: bool = False  # LAUNCHER_GPUS=none: that there is no usable GPU is no failure
    collective: Collective | None = None  # None = it was not asked for
    rdma: Rdma | None = None  # None = it was not looked at
    nodes: int = 1  # of the job that this box is part of, as far as something says it
    refused_calls: tuple[str, ...] = ()  # new system calls that a filter forbids: "clone3" …
    extra: dict[str, str] = {}  # noqa: RUF012  # more facts for a report; nobody changes it

    @property
    def report(self) -> GpuReport:
        return self.machine.report

    @property
    def hardware(self) -> Hardware:
        return self.machine.hardware

    @property
    def limits(self) -> Limits:
        return self.machine.limits

    @property
    def platform(self) -> str:
        return self.machine.host.platform

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.report.gpus

    @property
    def lost(self) -> tuple[LostGpu, ...]:
        return self.report.lost

    def nvml(self, *codes: int) -> bool:
        """Return whether NVML as a whole failed with one of these codes."""
        return self.report.failure is not None and self.report.failure.code in codes

    def driver_failed(self, kind: str) -> bool:
        """Return whether NVML failed in this way: "library", "nvml", "hung", "crashed"."""
        return self.report.failure is not None and self.report.failure.kind == kind

    @property
    def reason(self) -> str:
        """Return NVML's own words of what failed."""
        return self.report.failure.reason if self.report.failure else ""

    def node(self, path: str) -> str | None:
        """Return why a device node cannot be opened ("EPERM"), "" where it can, None unknown."""
        return next((node.fault for node in self.report.nodes if node.path == path), None)

    def has_node(self, path: str) -> bool:
        return path in self.hardware.device_nodes

    def trial(self, how: str) -> CudaTrial | None:
        return next((trial for trial in self.trials if trial.how == how), None)

    @property
    def given(self) -> CudaTrial | None:
        """Return the trial in the user's own environment; None where CUDA was not tried."""
        return self.trial(AS_GIVEN)

    @property
    def cuda(self) -> CudaTrial | None:
        """Return the trial that judges CUDA itself: the one with the least in its way."""
        return self.trial(CLEAN) or self.given

    def cuda_error(self, *codes: int) -> bool:
        """Return whether CUDA fails with one of these codes even with nothing in the way."""
        return self.cuda is not None and self.cuda.outcome == "error" and self.cuda.code in codes

    def cures(self, how: str) -> bool:
        """Return whether CUDA fails, or sees fewer devices, as given, and does better like this."""
        given, other = self.given, self.trial(how)
        if given is None or other is None or other.outcome != "ok" or not other.devices:
            return False
        return given.outcome != "ok" or len(given.devices) < len(other.devices)

    def taken(self, name: str) -> Library | None:
        """Return the file that the loader takes for a library."""
        return next((lib for lib in self.libraries if lib.name == name and lib.taken), None)
