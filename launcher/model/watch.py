"""What watch looks at, as it was at the start, and what it sees there.

By itself: watch stays in memory as long as the box lives, and the plan and the machine take two
megabytes.
"""

from __future__ import annotations

from launcher.model.named_tuple import NamedTuple
from launcher.model.secret import Secret

# From where watch asks sshd: its log has a line about each such visit, which nobody needs.
WATCH_ADDRESS = "127.22.22.22"


class JupyterDoor(NamedTuple):
    """Where Jupyter is asked how it is."""

    port: int
    listen: str  # "" = every address
    target: Secret | None  # of the request, maybe with the token; None = answers nobody but a hub
    authorization: Secret | None = None  # the header, with the token
    encrypted: bool = False


class SshDoor(NamedTuple):
    """Where sshd is asked for its version."""

    port: int
    listen: str  # "" = every address


class GpuState(NamedTuple):
    """How a GPU is that answers.  None = the device or the driver does not tell."""

    recovery: int | None = None  # nvmlDeviceGpuRecoveryAction_t: what it needs
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    link_recoveries: int | None = None  # NVLinks that failed and were trained anew
    slowdown: int | None = None  # nvmlClocksEventReason* bits
    persistence: bool | None = None
    licensed: bool | None = None  # of a vGPU alone


class ListedGpu(NamedTuple):
    """A GPU that NVML listed."""

    uuid: str
    instances: frozenset[str] | None  # UUIDs of its MIG instances; None = not in MIG mode
    index: int = 0  # type: ignore[assignment]
    bus: str = ""  # its PCI address; "" = integrated
    places: tuple[tuple[int, int], ...] = ()  # of the instances: GPU instance, compute instance
    state: GpuState = GpuState()

    @property
    def smi_id(self) -> str:
        """Return what `nvidia-smi -i` takes for it, whoever counts."""
        return self.bus or self.uuid


class GpusAtStart(NamedTuple):
    """The GPUs of the start, and how often to look whether they are still there."""

    interval: float  # seconds
    listed: tuple[ListedGpu, ...]
    lost: int  # how many more NVML counted, and could not open
    control_fault: str  # what opening the driver's control node did; "" = it opened
    environ: tuple[tuple[str, str], ...]  # in which the driver was asked, without secrets
    patience: float = 30.0  # seconds that the driver may take


class WatchTarget(NamedTuple):
    """The box, as watch looks at it."""

    run_dir: str
    started: float  # CLOCK_MONOTONIC, seconds
    jupyter: JupyterDoor | None
    ssh: SshDoor | None
    gpus: GpusAtStart | None  # None = there were none, or nobody wants them watched
    rsa_host_key: str = ""  # path of the public half of one that is still to be made
    idle_shutdown: int = 0  # seconds after which a box that nobody uses ends; 0 = never
    place: str = "docker"  # where the box runs: a row of the table of places
    anew: str = "docker restart …"  # how it is started once more there
    at_start: str = ""  # what was broken then, and its fix: no loss, and no health either


class Probe(NamedTuple):
    """What a probe saw of one service."""

    service: str
    ready: bool
    detail: str  # why not, or what answered
