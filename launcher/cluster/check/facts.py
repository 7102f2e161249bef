"""What each node says of itself, and what came of it: the values of the check.  Pure."""

from __future__ import annotations

from launcher.model.named_tuple import NamedTuple

# In the order in which they are looked at; the exit status is 10 + the number of the first that
# fails.
STAGES = ("reach", "beliefs", "clocks", "versions", "machines", "pairs", "all_reduce")
AFTER_REACH = STAGES[1:]  # those that need the others

Named = tuple[tuple[str, str], ...]


class NodeReport(NamedTuple):
    """What one node believes and has."""

    rank: int
    nodes: int
    processes: int
    hostname: str
    address: str  # its own, towards the master
    master: str
    port: int
    platform: str = ""
    interface: str = ""
    mtu: int = 0  # bytes; 0 = not known
    versions: Named = ()  # launcher, torch, CUDA, NCCL, driver
    gpus: tuple[str, ...] = ()
    memlock: int | None = None  # bytes; None = unlimited
    shm: int | None = None  # bytes of /dev/shm; None = there is none
    rdma: tuple[str, ...] = ()  # active ports
    settings: Named = ()  # NCCL's and gloo's variables, as the run will have them
    own_name: str = ""  # the address that its host name stands for; "" = none
    talks: str = ""  # where the libraries will listen, if not at `address`
    talks_by: str = ""  # why: "GLOO_SOCKET_IFNAME=eth1"

    @property
    def shown(self) -> str:
        return f"node {self.rank} ({self.hostname})"

    @property
    def door(self) -> str:
        """Return the address at which a job's libraries will listen."""
        return self.talks or self.address


class Finding(NamedTuple):
    """One thing that is wrong."""

    stage: str
    what: str  # who, and what was seen
    means: str
    fix: str
    fatal: bool = True  # False = worth a word, and no reason to fail


class Pair(NamedTuple):
    """What came of connecting from one node to another, and sending 64 KiB there and back."""

    source: int
    target: int
    seconds: float | None  # None = it failed
    error: str = ""


class Reduced(NamedTuple):
    """What one process did in the measured job."""

    rank: int  # of all processes
    node: int
    reached: str  # "start", "torch", "met", the bytes of a size, "pairs", "done"
    error: str = ""
    nccl: str = ""  # the version that is loaded
    gemm: float = 0.0  # seconds of one product, best of several; 0 = not measured
    sizes: tuple[tuple[int, float], ...] = ()  # bytes, seconds of the best
    wrong: tuple[tuple[int, float, float], ...] = ()  # bytes, what came out, what should have
    pairs: tuple[tuple[int, float], ...] = ()  # other node, seconds to send and receive PAIR_BYTES


class Outcome(NamedTuple):
    """The whole check, as node 0 has it."""

    nodes: int
    reports: tuple[NodeReport, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...] = ()  # stages that were not looked at
    offsets: tuple[tuple[int, float], ...] = ()  # node, seconds that its clock is ahead of ours
    reduced: tuple[Reduced, ...] = ()
    seconds: float = 0.0
    waited: float = 0.0  # until the last node came

    @property
    def failed(self) -> str | None:
        """Return the first stage that failed."""
        bad = {finding.stage for finding in self.findings if finding.fatal}
        return next((stage for stage in STAGES if stage in bad), None)

    @property
    def status(self) -> int:
        return 0 if self.failed is None else 11 + STAGES.index(self.failed)
