"""Which CPUs each rank of this node gets: those beside its GPU, and its share of them.  Pure.

Local rank n computes on device n, as torchrun's scripts have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher.cluster.place import Given
from launcher.cluster.rendezvous import Choice
from launcher.model.cpu_list import write_list
from launcher.model.named_tuple import NamedTuple

THREADS = "OMP_NUM_THREADS"
Cpus = frozenset[int]


class Device(NamedTuple):
    """A device that CUDA sees, and the CPUs beside it."""

    name: str
    pci_bus_id: str = ""
    cpus: Cpus = frozenset()  # empty = not known


class CpuSets(NamedTuple):
    """The CPUs of this node that we may use."""

    allowed: Cpus
    numa: tuple[Cpus, ...] = ()  # of each NUMA node that has some
    usable: float = 0.0  # CPUs' worth of time, where a quota allows less than all of them

    @property
    def nodes(self) -> tuple[Cpus, ...]:
        """Return the allowed CPUs of each NUMA node that has any."""
        return tuple(both for node in self.numa if (both := node & self.allowed)) or (self.allowed,)


class Seats(NamedTuple):
    """What each local rank gets."""

    cpus: tuple[Cpus, ...]  # by local rank
    threads: int  # each, of the rank that has the fewest
    bound: bool  # somebody gets less than all


def count_processes(
    given: Given, devices: Sequence[Device], cpus: CpuSets, cpu_count: int
) -> tuple[int, Choice]:
    """Return how many processes there will be, and the argument that says so.

    Raises ValueError with what --nproc-per-node accepts.
    """
    name = "--nproc-per-node"
    if devices:
        choice = Choice(
            name, str(len(devices)), f"CUDA sees {kinds(device.name for device in devices)}"
        )
    else:
        nodes = len(cpus.nodes)
        why = "one a NUMA node, as CUDA sees no GPU" if nodes > 1 else "CUDA sees no GPU"
        choice = Choice(name, str(nodes), why)
    said = given.get("nproc_per_node")
    if said is None:
        return int(choice.value), choice
    words = {
        "gpu": len(devices), "cpu": cpu_count, "auto": len(devices) or cpu_count,
        "xpu": len(devices),
    }  # fmt: skip
    if said.value in words:
        return words[said.value], choice
    if not (said.value.isascii() and said.value.isdigit()) or not 0 < int(said.value) < 10**6:
        raise ValueError(f"{said.by}={said.value[:60]!r}: expected a number from 1, gpu or cpu")
    return int(said.value), choice


def kinds(names: Iterable[str]) -> str:
    """Return "8 × NVIDIA H100", "" for none."""
    return ", ".join(f"{count} × {name}" for name, count in Counter(names).items())


def seat(processes: int, devices: Sequence[Device], cpus: CpuSets) -> Seats:
    """Return each rank's CPUs: its GPU's node, or on a CPU box the NUMA nodes in turn."""
    found = tuple(_near(rank, processes, devices, cpus) for rank in range(processes))
    together = Counter(found)
    share = min(1.0, (cpus.usable or len(cpus.allowed)) / max(1, len(cpus.allowed)))
    threads = min((int(share * len(own) / together[own]) for own in found), default=1)
    return Seats(found, max(1, threads), any(own != cpus.allowed for own in found))


def _near(rank: int, processes: int, devices: Sequence[Device], cpus: CpuSets) -> Cpus:
    if devices:
        beside = devices[rank].cpus & cpus.allowed if rank < len(devices) else frozenset()
        return beside or cpus.allowed
    if processes < len(cpus.nodes):
        return cpus.allowed  # fewer than nodes: each may want several of them
    return cpus.nodes[rank * len(cpus.nodes) // processes]


class Bound(NamedTuple):
    """How the ranks come to their CPUs."""

    option: Choice | None = None  # torchrun's own
    lists: str = ""  # else for guest/rank.py: a list a rank, with a colon between two
    variables: tuple[Choice, ...] = ()
    notes: tuple[str, ...] = ()


def bind(
    seats: Seats, given: Given, environ: Mapping[str, str], own_option: bool, is_gpu: bool
) -> Bound:
    """Return how to bind them.

    Args:
        own_option: this torchrun takes --numa-binding, and numactl, which it needs, is there.
        is_gpu: the ranks have devices, without which that option ends the job.
    """
    variables = tuple(_threads(seats, environ))
    if not seats.bound or "numa_binding" in given:
        return Bound(variables=variables)
    if "run_path" in given:
        note = "--run-path: the ranks are not bound to CPUs; leave it out and they are"
        return Bound(variables=variables, notes=(note,))
    if own_option and is_gpu:
        option = Choice("--numa-binding", "node", "each rank on the CPUs beside its GPU")
        return Bound(option, variables=variables)
    lists = ":".join(write_list(own) for own in seats.cpus)
    return Bound(lists=lists, variables=variables)


def _threads(seats: Seats, environ: Mapping[str, str]) -> Iterator[Choice]:
    if len(seats.cpus) < 2 or environ.get(THREADS):
        return
    fewest = min(seats.cpus, key=len)
    same = seats.cpus.count(fewest)
    shared = f" shared by {same} processes" if same > 1 else ""
    why = f"CPUs {write_list(fewest)}{shared}; torchrun would set 1"
    yield Choice(THREADS, str(seats.threads), why)
