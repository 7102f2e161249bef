"""What detect finds: the machine, as values.  Imports nothing of ours but the box.

Every unit is in the field's name or comment.  `None` means "this machine does not say".
Named tuples, here and in the rest of `model`: a frozen dataclass costs three times as much at
import, on PID 1's way.  (`index` and `count` hide the methods of a tuple; nobody calls those.)
"""

from __future__ import annotations

from launcher.model.host import Host
from launcher.model.named_tuple import NamedTuple


class GpuProcess(NamedTuple):
    """A process that computes on a GPU, as the driver names it."""

    pid: int  # in the namespace that the driver counts in, mostly the host's
    memory_bytes: int | None = None
    here: int | None = None  # its pid in this container, where it is one of ours
    name: str = ""  # of ours


class MigDevice(NamedTuple):
    """One MIG instance, as CUDA can open it."""

    uuid: str
    name: str
    memory_bytes: int | None
    gpu_instance: int | None
    compute_instance: int | None
    memory_free: int | None = None  # bytes
    memory_reserved: int | None = None  # bytes that the driver keeps to itself
    processes: int | None = None  # that compute on it now
    holders: tuple[GpuProcess, ...] = ()  # the same, one by one

    @property
    def profile(self) -> str:
        """Return how the GPU was cut: "2g.20gb"."""
        return self.name.rpartition(" ")[2]

    @property
    def memory_used(self) -> int | None:
        return _used(self.memory_bytes, self.memory_free, self.memory_reserved)


def _used(total: int | None, free: int | None, reserved: int | None) -> int | None:
    if total is None or free is None:
        return None
    return max(0, total - free - (reserved or 0))


class NvLinks(NamedTuple):
    """Those NVLinks of one GPU that are alike."""

    count: int  # type: ignore[assignment]
    to: str | None  # "gpu" | "switch" | "ibmnpu" | "unknown"; None = they are down
    pci_bus_id: str | None = None  # of what they lead to, where that is told


class NvLinkErrors(NamedTuple):
    """What went wrong on all NVLinks of one GPU since the driver took it."""

    recoveries: int  # links that failed and were trained anew
    replays: int | None = None
    crc: int | None = None


class Gpu(NamedTuple):
    """One GPU that answers."""

    index: int  # type: ignore[assignment]  # NVML ordinal = PCI order = CUDA ordinal under CUDA_DEVICE_ORDER=PCI_BUS_ID
    uuid: str
    name: str
    pci_bus_id: str | None  # domain:bus:device.function, as NVML prints it; None = integrated
    memory_bytes: int | None
    compute_capability: tuple[int, int] | None
    mig_enabled: bool | None
    mig_devices: tuple[MigDevice, ...] = ()
    mig_fault: int | None = None  # nvmlReturn_t of an instance that is there and does not open
    minor: int | None = None  # of /dev/nvidiaN, which need not be the index
    memory_free: int | None = None  # bytes
    memory_reserved: int | None = None  # bytes that the driver keeps to itself; None = old driver
    memory_shared: bool = False  # it is the machine's, shared with the CPU: an integrated GPU
    processes: int | None = None  # that compute on it now
    holders: tuple[GpuProcess, ...] = ()  # the same, one by one
    compute_mode: int | None = None  # nvmlComputeMode_t: 0 default, 2 prohibited, 3 exclusive
    pcie_width: int | None = None  # lanes in use
    pcie_width_max: int | None = None  # lanes that card and slot have
    pcie_generation_max: int | None = None  # that card and slot have; idle, it runs at a lower one
    remap_pending: bool | None = None  # bad memory rows wait for a reset
    remap_failed: bool | None = None  # there are more bad rows than spare ones
    recovery: int | None = None  # nvmlDeviceGpuRecoveryAction_t: what the driver says it needs
    ecc_errors: int | None = None  # that ECC could not correct, since the driver was loaded
    slowdown: int | None = None  # nvmlClocksEventReason* bits: why its clocks are held down
    vgpu: bool | None = None  # a part of a GPU, which a hypervisor gives to a virtual machine
    licensed: bool | None = None  # a vGPU; None = it needs no licence, or does not tell
    persistence: bool | None = None  # the driver keeps the GPU ready while nobody uses it
    numa_node: int | None = None
    cpus: str | None = None  # local CPUs as a kernel list, "0-51,104-155"
    cpus_filtered: bool = False  # as the container's cpuset lets us see them, not the hardware's
    fabric: str | None = None  # "not started" | "in progress" | "completed"
    fabric_status: int | None = None  # nvmlReturn_t with which it was completed: 0 = well
    fabric_clique: int | None = None  # those of one clique reach each other, once it is completed
    fabric_health: int | None = None  # NVML_GPU_FABRIC_HEALTH_MASK_*
    nvlinks: tuple[NvLinks, ...] = ()
    nvlink_version: str | None = None  # "4.0"
    nvlink_errors: NvLinkErrors | None = None

    @property
    def mig_uuids(self) -> tuple[str, ...]:
        return tuple(device.uuid for device in self.mig_devices)

    @property
    def place(self) -> str:
        """Return where it sits, for people."""
        return self.pci_bus_id or "integrated"

    @property
    def smi_id(self) -> str:
        """Return what `nvidia-smi -i` takes for it, whoever counts."""
        return self.pci_bus_id or self.uuid

    @property
    def memory_used(self) -> int | None:
        """Return the bytes that programs hold, as nvidia-smi counts them; None = not told.

        Where the driver does not say what it keeps to itself, that is in it: hundreds of MiB.
        """
        return _used(self.memory_bytes, self.memory_free, self.memory_reserved)

    @property
    def nvlinks_up(self) -> int:
        return sum(links.count for links in self.nvlinks if links.to)

    @property
    def nvlinks_down(self) -> int:
        return sum(links.count for links in self.nvlinks if not links.to)


class LostGpu(NamedTuple):
    """A GPU that NVML counts and cannot open."""

    index: int  # type: ignore[assignment]
    error: str
    code: int  # nvmlReturn_t


class Pair(NamedTuple):
    """How two GPUs are connected; `a` < `b` are their indices."""

    a: int
    b: int
    nvlinks: int = 0  # bonded NVLinks between them
    via: str | None = None  # "direct" | "switch" | "hidden switch"
    path: str | None = None  # PCIe: INTERNAL PIX PXB PHB NODE SYS
    p2p: str | None = None  # of reads: OK CNS GNS TNS DR NS U


class DriverFailure(NamedTuple):
    """Why NVML gave no answer at all."""

    kind: str  # "library" | "nvml" | "hung" | "crashed"
    reason: str  # the exact string seen
    code: int | None = None  # nvmlReturn_t


class DeviceNode(NamedTuple):
    """A file below /dev, and what opening it for reading and writing did."""

    path: str
    fault: str  # "" = it opens; else the errno: ENOENT EPERM EACCES ENXIO ENODEV EIO
    uid: int = 0
    gid: int = 0
    mode: int = 0o666


class GpuReport(NamedTuple):
    """What the driver says, asked in a process that it may hang or crash."""

    gpus: tuple[Gpu, ...] = ()
    lost: tuple[LostGpu, ...] = ()
    pairs: tuple[Pair, ...] = ()
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None  # the highest this driver runs
    failure: DriverFailure | None = None
    nodes: tuple[DeviceNode, ...] = ()  # those that were opened
    seconds: float | None = None  # that the answer took; None = nobody measured


class CpuBudget(NamedTuple):
    """How much CPU the container may use, in CPUs."""

    online: int  # on the machine
    allowed: int  # in the affinity mask
    quota: float | None  # cgroup bandwidth; None = unlimited

    @property
    def usable(self) -> float:
        return float(self.allowed) if self.quota is None else min(self.quota, self.allowed)

    @property
    def in_words(self) -> str:
        """Return what may be used: "1 CPU", "2.9 CPUs"."""
        return "1 CPU" if self.usable == 1 else f"{self.usable:g} CPUs"


class Limits(NamedTuple):
    """What the container may use beside GPUs.  Bytes, unless the name says otherwise."""

    cpus: CpuBudget
    memory: int | None
    shm: int | None
    pids: int | None  # processes and threads; None = unlimited
    memlock: int | None  # None = unlimited
    stack: int | None = 8 << 20  # None = unlimited
    nofile: int | None = 1024  # files that a process may have open; None = unlimited


class PciDevice(NamedTuple):
    """An NVIDIA display controller on the PCI bus."""

    address: str  # "0000:18:00.0"
    device_id: str  # "2684"
    driver: str | None = None  # the kernel driver bound to it: "nvidia" "nouveau" "vfio-pci"
    name: str | None = None  # from the system's pci.ids


class Hardware(NamedTuple):
    """What can be seen of the GPUs without the driver library."""

    pci: tuple[PciDevice, ...] = ()
    pci_hidden: bool = False  # /sys/bus/pci/devices is not here
    kernel_driver: str | None = None  # version of the loaded kernel module
    open_module: bool | None = None  # NVIDIA's open kernel module
    modules: tuple[str, ...] | None = None  # "nvidia", "nvidia_uvm" …; None = /proc hides them
    device_nodes: tuple[str, ...] = ()  # "/dev/nvidia0", "/dev/nvidiactl" …
    started: tuple[int, ...] = ()  # minors of the GPUs that the kernel module has started


class Nic(NamedTuple):
    """A network card that RDMA can use, and its PCIe paths: to GPUs by index, to cards by name."""

    name: str
    pci_bus_id: str
    paths: tuple[tuple[int, str], ...] = ()
    beside: tuple[tuple[str, str], ...] = ()


class Machine(NamedTuple):
    """Everything that detect found."""

    report: GpuReport
    hardware: Hardware
    limits: Limits
    host: Host
