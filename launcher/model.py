"""The values that travel between the stages.  Imports nothing of ours.

Every unit is in the field's name or comment.  `None` means "this machine does not say".
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that prints as ***; only `render` and the banner reveal it."""

    value: str

    def __repr__(self) -> str:
        return "***"

    def reveal(self) -> str:
        return self.value


# --- what detect finds -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that answers."""

    index: int  # NVML ordinal = PCI order = CUDA ordinal under CUDA_DEVICE_ORDER=PCI_BUS_ID
    uuid: str
    name: str
    pci_bus_id: str  # domain:bus:device.function, as NVML prints it
    memory_bytes: int | None
    compute_capability: tuple[int, int] | None
    mig_enabled: bool | None
    mig_uuids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LostGpu:
    """A GPU that NVML counts and cannot open."""

    index: int
    error: str
    code: int  # nvmlReturn_t


@dataclass(frozen=True, slots=True)
class DriverFailure:
    """Why NVML gave no answer at all."""

    kind: str  # "library" | "nvml" | "hung" | "crashed"
    reason: str  # the exact string seen
    code: int | None = None  # nvmlReturn_t


@dataclass(frozen=True, slots=True)
class GpuReport:
    """What the driver library says."""

    gpus: tuple[Gpu, ...] = ()
    lost: tuple[LostGpu, ...] = ()
    driver_version: str | None = None
    cuda_version: tuple[int, int] | None = None  # the highest this driver runs
    failure: DriverFailure | None = None


@dataclass(frozen=True, slots=True)
class CpuBudget:
    """How much CPU the container may use, in CPUs."""

    online: int  # on the machine
    allowed: int  # in the affinity mask
    quota: float | None  # cgroup bandwidth; None = unlimited

    @property
    def usable(self) -> float:
        return float(self.allowed) if self.quota is None else min(self.quota, self.allowed)


@dataclass(frozen=True, slots=True)
class Limits:
    """What the container may use beside GPUs.  Bytes, unless the name says otherwise."""

    cpus: CpuBudget
    memory: int | None
    shm: int | None
    pids: int | None  # processes and threads; None = unlimited
    memlock: int | None  # None = unlimited


@dataclass(frozen=True, slots=True)
class Hardware:
    """What can be seen of the GPUs without the driver library."""

    pci_ids: tuple[str, ...] = ()  # "10de:2684" for each NVIDIA display controller
    kernel_driver: str | None = None  # version of the loaded kernel module
    device_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """One line of the password database."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """The box we run in."""

    platform: str  # "docker" | "podman" | "kubernetes" | "runpod" | "vast" | "wsl2" | "plain"
    image: bool  # built from the project's Dockerfile: accounts are ours to set up
    hostname: str
    me: Account
    account: Account | None  # of the workspace user, where it exists
    workspace_missing: bool
    workspace_writable: bool  # by the workspace user
    sshd: str | None  # path of the server
    busy_ports: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that detect found."""

    report: GpuReport
    hardware: Hardware
    limits: Limits
    host: Host


@dataclass(frozen=True, slots=True)
class KeyLine:
    """One line of an authorized_keys source."""

    source: str  # the variable or file it came from
    number: int  # line number there, from 1
    text: str
    fault: str | None = None  # why it is not a key


@dataclass(frozen=True, slots=True)
class State:
    """What outlives a restart: lives in the state directory."""

    token: Secret
    password: Secret
    host_key: str | None  # "ssh-ed25519 AAAA…"; None where there is no ssh-keygen
    login_key: str | None = None  # public half of a key made for the owner of a plain machine
    keys: tuple[KeyLine, ...] = ()  # those of the settings, validated


# --- what plan decides -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnvVar:
    """A variable of the user's environment, and why it has this value."""

    name: str
    value: str
    why: str


@dataclass(frozen=True, slots=True)
class Finding:
    """A thing that is wrong: what, what it means for you, how to mend it."""

    id: str
    what: str
    means: str
    fix: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the user's programs run as."""

    account: Account
    why: str

    @property
    def is_root(self) -> bool:
        return self.account.uid == 0


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service is reached from outside the container."""

    host: str
    port: int
    container_port: int
    certain: bool  # told by the environment, not assumed


@dataclass(frozen=True, slots=True)
class Jupyter:
    """The Jupyter server to start."""

    port: int
    listen: str
    token: Secret
    address: Address
    base_url: str = "/"
    left_out: tuple[str, ...] = ()  # server extensions that would take Jupyter down with them


@dataclass(frozen=True, slots=True)
class Ssh:
    """The SSH server to start."""

    port: int
    listen: str
    sshd: str
    address: Address
    user: str
    host_key: str
    keys: tuple[KeyLine, ...]
    password: Secret | None  # None = keys only
    password_why: str
    login_key_file: str | None = None  # to be named in the ssh line


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the launcher keeps its own files."""

    run: str  # this run's: plan, configuration, sockets, logs
    state: str  # kept over restarts: token, password, host keys
    workspace: str
    python: str  # the user environment's interpreter
    guest: str  # our programs that run in the user environment


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, complete: render and run add no decision."""

    paths: Paths
    identity: Identity
    environment: tuple[EnvVar, ...]  # what the launcher sets, or keeps and explains
    inherited: tuple[tuple[str, str], ...]  # the container's own environment, without secrets
    jupyter: Jupyter | None
    ssh: Ssh | None
    ssh_off: str | None  # why there is no SSH
    notes: tuple[Finding, ...]  # what is not as it should be, most important first
    devices: int  # GPUs (or MIG instances) that the user's programs see
    ready_timeout: float  # seconds
    color: bool = False  # the container's log is a terminal
    started: float = 0.0  # CLOCK_MONOTONIC, seconds

    def user_environment(self) -> dict[str, str]:
        """Return the environment of everything that runs for the user."""
        return {**dict(self.inherited), **{var.name: var.value for var in self.environment}}


@dataclass(frozen=True, slots=True)
class Service:
    """How `launcher exec` becomes a program."""

    name: str
    argv: tuple[str, ...]
    uid: int
    gid: int
    groups: tuple[int, ...]
    cwd: str
    env: tuple[tuple[str, str], ...] = field(repr=False)
    umask: int = 0o022


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file to be written: `content` None makes a directory."""

    path: str
    content: str | None
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Probe:
    """What a readiness probe saw of one service."""

    service: str
    ready: bool
    detail: str  # why not, or what answered
