"""What detect finds: the machine, as values.  Imports nothing of ours.

Every unit is in the field's name or comment.  `None` means "this machine does not say".
No slots here nor in `model`: they double what a class costs at import, on PID 1's way.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MigDevice:
    """One MIG instance, as CUDA can open it."""

    uuid: str
    name: str
    memory_bytes: int | None
    gpu_instance: int | None
    compute_instance: int | None


@dataclass(frozen=True)
class NvLinks:
    """Those NVLinks of one GPU that are alike."""

    count: int
    to: str | None  # "gpu" | "switch" | "ibmnpu" | "unknown"; None = they are down
    pci_bus_id: str | None = None  # of what they lead to, where that is told


@dataclass(frozen=True)
class Gpu:
    """One GPU that answers."""

    index: int  # NVML ordinal = PCI order = CUDA ordinal under CUDA_DEVICE_ORDER=PCI_BUS_ID
    uuid: str
    name: str
    pci_bus_id: str  # domain:bus:device.function, as NVML prints it
    memory_bytes: int | None
    compute_capability: tuple[int, int] | None
    mig_enabled: bool | None
    mig_devices: tuple[MigDevice, ...] = ()
    minor: int | None = None  # of /dev/nvidiaN, which need not be the index
    memory_free: int | None = None  # bytes
    processes: int | None = None  # that compute on it now
    compute_mode: int | None = None  # nvmlComputeMode_t: 0 default, 2 prohibited, 3 exclusive
    pcie_width: int | None = None  # lanes in use
    pcie_width_max: int | None = None  # lanes that card and slot have
    remap_pending: bool | None = None  # bad memory rows wait for a reset
    remap_failed: bool | None = None  # there are more bad rows than spare ones
    ecc_errors: int | None = None  # that ECC could not correct, since the driver was loaded
    slowdown: int | None = None  # nvmlClocksEventReason* bits: why its clocks are held down
    persistence: bool | None = None  # the driver keeps the GPU ready while nobody uses it
    numa_node: int | None = None
    cpus: str | None = None  # local CPUs as a kernel list, "0-51,104-155"
    cpus_filtered: bool = False  # as the container's cpuset lets us see them, not the hardware's
    fabric: str | None = None  # "not started" | "in progress" | "completed"
    nvlinks: tuple[NvLinks, ...] = ()
    nvlink_version: str | None = None  # "4.0"

    @property
    def mig_uuids(self) -> tuple[str, ...]:
        return tuple(device.uuid for device in self.mig_devices)

    @property
    def nvlinks_up(self) -> int:
        return sum(links.count for links in self.nvlinks if links.to)

    @property
    def nvlinks_down(self) -> int:
        return sum(links.count for links in self.nvlinks if not links.to)


@dataclass(frozen=True)
class LostGpu:
    """A GPU that NVML counts and cannot open."""

    index: int
    error: str
    code: int  # nvmlReturn_t


@dataclass(frozen=True)
class Pair:
    """How two GPUs are connected; `a` < `b` are their indices."""

    a: int
    b: int
    nvlinks: int = 0  # bonded NVLinks between them
    via: str | None = None  # "direct" | "switch" | "hidden switch"
    path: str | None = None  # PCIe: INTERNAL PIX PXB PHB NODE SYS
    p2p: str | None = None  # of reads: OK CNS GNS TNS DR NS U


@dataclass(frozen=True)
class DriverFailure:
    """Why NVML gave no answer at all."""

    kind: str  # "library" | "nvml" | "hung" | "crashed"
    reason: str  # the exact string seen
    code: int | None = None  # nvmlReturn_t


@dataclass(frozen=True)
class DeviceNode:
    """A file below /dev, and what opening it for reading and writing did."""

    path: str
    fault: str  # "" = it opens; else the errno: ENOENT EPERM EACCES ENXIO ENODEV EIO
    uid: int = 0
    gid: int = 0
    mode: int = 0o666


@dataclass(frozen=True)
class GpuReport:
    """What the driver says, asked in a process that it may hang or crash."""

    gpus: tuple[Gpu, ...] = ()
    lost: tuple[LostGpu, ...] = ()
    pairs: tuple[Pair, ...] = ()
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None  # the highest this driver runs
    failure: DriverFailure | None = None
    nodes: tuple[DeviceNode, ...] = ()  # those that were opened


@dataclass(frozen=True)
class CpuBudget:
    """How much CPU the container may use, in CPUs."""

    online: int  # on the machine
    allowed: int  # in the affinity mask
    quota: float | None  # cgroup bandwidth; None = unlimited

    @property
    def usable(self) -> float:
        return float(self.allowed) if self.quota is None else min(self.quota, self.allowed)


@dataclass(frozen=True)
class Limits:
    """What the container may use beside GPUs.  Bytes, unless the name says otherwise."""

    cpus: CpuBudget
    memory: int | None
    shm: int | None
    pids: int | None  # processes and threads; None = unlimited
    memlock: int | None  # None = unlimited
    stack: int | None = 8 << 20  # None = unlimited


@dataclass(frozen=True)
class PciDevice:
    """An NVIDIA display controller on the PCI bus."""

    address: str  # "0000:18:00.0"
    device_id: str  # "2684"
    driver: str | None = None  # the kernel driver bound to it: "nvidia" "nouveau" "vfio-pci"
    name: str | None = None  # from the system's pci.ids


@dataclass(frozen=True)
class Hardware:
    """What can be seen of the GPUs without the driver library."""

    pci: tuple[PciDevice, ...] = ()
    pci_hidden: bool = False  # /sys/bus/pci/devices is not here
    kernel_driver: str | None = None  # version of the loaded kernel module
    open_module: bool | None = None  # NVIDIA's open kernel module
    modules: tuple[str, ...] | None = None  # "nvidia", "nvidia_uvm" …; None = /proc hides them
    device_nodes: tuple[str, ...] = ()  # "/dev/nvidia0", "/dev/nvidiactl" …


@dataclass(frozen=True)
class Account:
    """One line of the password database."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Folder:
    """A directory, as stat(2) shows it."""

    uid: int
    gid: int
    mode: int
    writable: bool  # by this process; False on a read-only mount

    def lets_write(self, account: Account, me: Account) -> bool:
        """Return whether the mount and the bits let `account` create files; `me` looked."""
        if account.uid == me.uid or not self.writable:  # what root cannot is mounted read-only
            return self.writable
        for applies, bits in (
            (self.uid == account.uid, 0o300),
            (self.gid in (account.gid, *account.groups), 0o030),
        ):
            if applies:
                return self.mode & bits == bits
        return self.mode & 0o003 == 0o003


@dataclass(frozen=True)
class Nic:
    """A network card that RDMA can use, and its PCIe paths: to GPUs by index, to cards by name."""

    name: str
    pci_bus_id: str
    paths: tuple[tuple[int, str], ...] = ()
    beside: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Mount:
    """A file system that is mounted here."""

    path: str
    kind: str  # "ext4" "overlay" "tmpfs" "nfs4" …


# Where programs keep their downloads, below HOME or below the workspace.
CACHE = ".cache"
CACHE_FOLDERS = ("huggingface", "pip", "uv", "torch")


@dataclass(frozen=True)
class Host:
    """The box we run in."""

    platform: str  # "docker" | "podman" | "kubernetes" | "runpod" | "vast" | "wsl2" | "plain"
    image: bool  # built from the project's Dockerfile: accounts are ours to set up
    hostname: str
    me: Account
    account: Account | None  # named by NB_USER, else the image's own; where it exists
    workspace_missing: bool
    workspace_writable: bool  # by that account; in a plan, by who it chose
    sshd: str | None  # path of the server
    busy_ports: frozenset[int] = frozenset()
    mounts: tuple[Mount, ...] = ()  # but for those on the system's own folders
    cache_folders: tuple[tuple[str, Folder], ...] = ()  # CACHE and those in it, if there
    accounts: tuple[Account, ...] = ()  # the lines of passwd(5)
    groups: tuple[tuple[str, int], ...] = ()  # the lines of group(5)
    workspace: Folder | None = None
    capabilities: frozenset[str] | None = None  # "SETUID" …; None = not known, so all
    no_new_privileges: bool = False  # setuid programs such as sudo stay whoever starts them
    names_writable: bool = False  # root may write passwd, group and shadow
    nss_wrapper: str | None = None  # path of the library that gives a uid a name
    user_home: str | None = None  # a home that a uid without a name can write to
    extra_groups: tuple[int, ...] = ()  # of docker run --group-add, or a pod's fsGroup
    python_gid: int | None = None  # the group that may write the user environment
    rootless: bool = False  # root here is somebody else on the host

    def account_of(self, uid: int) -> Account | None:
        known = (*self.accounts, self.account, self.me)
        return next((account for account in known if account and account.uid == uid), None)

    def account_named(self, name: str) -> Account | None:
        known = (*self.accounts, self.account, self.me)
        return next((account for account in known if account and account.name == name), None)

    def lacks(self, *capabilities: str) -> tuple[str, ...]:
        """Return those of `capabilities` that this process does not have."""
        has = self.capabilities
        return () if has is None else tuple(name for name in capabilities if name not in has)


@dataclass(frozen=True)
class Machine:
    """Everything that detect found."""

    report: GpuReport
    hardware: Hardware
    limits: Limits
    host: Host
