"""A job of torchrun's that runs here, as values."""

from __future__ import annotations

from launcher.model.named_tuple import NamedTuple


class Traffic(NamedTuple):
    """What went through an interface, or a port for RDMA."""

    name: str  # "eth0", "mlx5_0:1"
    received: int  # bytes
    sent: int


class Death(NamedTuple):
    """How a rank ended that a signal killed."""

    who: str  # "rank 9 (local rank 1, pid 77)"
    by: str  # "SIGKILL: the kernel killed it for want of memory, …"
    at: float  # CLOCK_MONOTONIC, seconds


class RunningJob(NamedTuple):
    """This node's part of it, as it was started."""

    nodes: int
    rank: int | None  # None = torchrun gives the ranks itself
    processes: int  # of this node
    hostname: str = ""
    master: str | None = None
    port: int = 0
    platform: str = ""
    began: float = 0.0  # CLOCK_MONOTONIC, seconds
    before: tuple[Traffic, ...] = ()  # its interfaces as it began
    deaths: tuple[Death, ...] = ()  # the first of a round of ranks, of the last rounds

    @property
    def shown(self) -> str:
        """Return "node 1 of 2 (gpu1)"."""
        number = "a node" if self.rank is None else f"node {self.rank}"
        name = f" ({self.hostname})" if self.hostname else ""
        return f"{number} of {self.nodes}{name}" if self.nodes > 1 else self.hostname or "here"
