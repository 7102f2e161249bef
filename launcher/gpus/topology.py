"""How the GPUs are connected: strength, matrix, islands, and what is odd.  Pure.

The classes are those of `nvidia-smi topo -m`; docs/topology.md explains them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import combinations

from launcher.model.machine import Gpu, GpuReport, Nic, Pair

# From the longest way to the shortest (nvml.h, nvmlGpuTopologyLevel_t).
PATHS = ("SYS", "NODE", "PHB", "PXB", "PIX", "INTERNAL")
BEHIND_ONE_SWITCH = ("PXB", "PIX", "INTERNAL")  # … or several: no way through the CPU
_PER_NVLINK = 100
_PER_STEP = 10

_WAYS = {
    "SYS": "PCIe across sockets",
    "NODE": "PCIe across host bridges of one socket",
    "PHB": "PCIe through the host bridge",
    "PXB": "PCIe through several switches",
    "PIX": "PCIe through one switch",
    "INTERNAL": "the same board",
    None: "a way that the driver does not tell",
}


def strength(pair: Pair) -> int:
    """Return how well two GPUs are connected: NVLinks far above PCIe, a short way above a long.

    100 for each NVLink and 10 to 60 for the PCIe path, so that sums compare as NVIDIA's own
    allocator compares them (go-gpuallocator, besteffort policy); 0 for an unknown path.
    """
    path = _PER_STEP * (PATHS.index(pair.path) + 1) if pair.path in PATHS else 0
    return _PER_NVLINK * pair.nvlinks + path


def cell(pair: Pair | None) -> str:
    """Return the pair's cell of `nvidia-smi topo -m`; "?" where nothing is known."""
    if pair is None:
        return "?"
    if pair.nvlinks:
        return f"NV{pair.nvlinks}"
    return {"INTERNAL": "PIX", None: "?"}.get(pair.path, pair.path or "?")


def pair_table(report: GpuReport) -> dict[tuple[int, int], Pair]:
    """Return the pairs by both orders of their indices."""
    table = {(pair.a, pair.b): pair for pair in report.pairs}
    return table | {(b, a): pair for (a, b), pair in table.items()}


def matrix(report: GpuReport, nics: Sequence[Nic] = ()) -> list[str]:
    """Return the matrix as `nvidia-smi topo -m` prints it: tab separated, one line per device."""
    pairs = pair_table(report)
    gpus = [f"GPU{gpu.index}" for gpu in report.gpus]
    names = [f"NIC{number}" for number in range(len(nics))]
    header = ["", *gpus, *names, "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"]
    lines = ["\t".join(header)]
    for gpu in report.gpus:
        cells = [
            " X " if gpu is other else cell(pairs.get((gpu.index, other.index)))
            for other in report.gpus
        ]
        ways = [dict(nic.paths).get(gpu.index, "?") for nic in nics]
        node = "" if gpu.numa_node is None else str(gpu.numa_node)
        lines.append("\t".join([f"GPU{gpu.index}", *cells, *ways, gpu.cpus or "", node, "N/A"]))
    return [*lines, *_nic_rows(report, nics)]


def _nic_rows(report: GpuReport, nics: Sequence[Nic]) -> Iterator[str]:
    for number, nic in enumerate(nics):
        gpus = [dict(nic.paths).get(gpu.index, "?") for gpu in report.gpus]
        others = [
            " X " if nic is other else dict(nic.beside).get(other.name, "?") for other in nics
        ]
        yield "\t".join([f"NIC{number}", *gpus, *others])


# --- network cards ---------------------------------------------------------------------------


def nearest_nics(gpu: int, nics: Iterable[Nic]) -> tuple[str, tuple[Nic, ...]]:
    """Return the shortest way from a GPU to a card, and the cards that it leads to.

    NCCL takes these for that GPU (graph/topo.cc, ncclTopoGetLocal); ("", ()) where none is known.
    """
    ways = [(path, nic) for nic in nics if (path := dict(nic.paths).get(gpu)) in PATHS]
    shortest = max((path for path, _ in ways), key=PATHS.index, default="")
    return shortest, tuple(nic for path, nic in ways if path == shortest)


def lost_nics(
    gpu: int, nics: Sequence[Nic], usable: Container[str]
) -> tuple[tuple[Nic, ...], str, tuple[Nic, ...]]:
    """Return the cards behind a GPU's own switch of which none can be used: ((), …) = one can.

    Args:
        usable: the PCI addresses of those that can.

    Besides, the shortest way to one that can, and the cards that it leads to.
    """
    path, nearest = nearest_nics(gpu, nics)
    now, instead = nearest_nics(gpu, (nic for nic in nics if nic.pci_bus_id in usable))
    lost = path in BEHIND_ONE_SWITCH and now not in BEHIND_ONE_SWITCH
    return nearest if lost else (), now, instead


# --- islands ---------------------------------------------------------------------------------


def islands(report: GpuReport) -> list[tuple[int, ...]]:
    """Return the sets of GPUs that NVLink joins, directly or over others; lone GPUs alone."""
    pairs = pair_table(report)
    left = [gpu.index for gpu in report.gpus]
    found: list[tuple[int, ...]] = []
    while left:
        island, edge = {left[0]}, [left[0]]
        while edge:
            here = edge.pop()
            new = {b for b in left if b not in island and _joined(pairs.get((here, b)))}
            island |= new
            edge += new
        found.append(tuple(sorted(island)))
        left = [index for index in left if index not in island]
    return found


def _joined(pair: Pair | None) -> bool:
    return pair is not None and pair.nvlinks > 0


def describe(report: GpuReport) -> list[str]:
    """Return what a person needs of the matrix, a sentence for each fact."""
    if not report.pairs:
        return []
    groups = islands(report)
    linked = [group for group in groups if len(group) > 1]
    if not linked:
        return [_flat_sentence(report)]
    sentences = []
    if len(groups) == 1:
        sentences.append(f"{name_gpus(groups[0])}: one NVLink island, {_links(report, groups[0])}")
    else:
        each = "; ".join(f"{name_gpus(group)} ({_links(report, group)})" for group in linked)
        noun = "island" if len(linked) == 1 else "islands"
        alone = [group[0] for group in groups if len(group) == 1]
        rest = f"; alone: {name_gpus(alone)}" if alone else ""
        between = ", ".join(_ways_between(report, groups))
        sentences.append(f"{len(linked)} NVLink {noun}: {each}{rest}; between them {between}")
    return sentences


def _flat_sentence(report: GpuReport) -> str:
    nodes = numa_groups(report.gpus)
    ways = ", ".join(_ways_between(report, [(gpu.index,) for gpu in report.gpus]))
    sentence = f"no NVLink; {ways}"
    if len(nodes) > 1:
        each = "; ".join(f"{name_gpus(members)} on node {node}" for node, members in nodes.items())
        sentence += f"; NUMA: {each}"
    return sentence


def numa_groups(gpus: Iterable[Gpu]) -> dict[int, list[int]]:
    """Return the GPUs of each NUMA node that is known."""
    groups: dict[int, list[int]] = {}
    for gpu in gpus:
        if gpu.numa_node is not None:
            groups.setdefault(gpu.numa_node, []).append(gpu.index)
    return dict(sorted(groups.items()))


def cpu_groups(gpus: Iterable[Gpu]) -> dict[str, list[int]]:
    """Return the GPUs by the place of their CPUs, "node 0, CPUs 0-51", where it is known."""
    groups: dict[str, list[int]] = {}
    for gpu in gpus:
        if gpu.cpus:
            node = "" if gpu.numa_node is None else f"node {gpu.numa_node}, "
            seen = " of this container's" if gpu.cpus_filtered else ""
            groups.setdefault(f"{node}CPUs {gpu.cpus}{seen}", []).append(gpu.index)
    return groups


def _links(report: GpuReport, group: Sequence[int]) -> str:
    pairs = pair_table(report)
    members = [pairs.get(both) for both in combinations(group, 2)]
    counts = sorted({pair.nvlinks for pair in members if pair})
    via = {pair.via for pair in members if pair and pair.nvlinks}
    how = " through NVSwitch" if via & {"switch", "hidden switch"} else ""
    if counts[0] == 0:
        most = "" if len(counts) < 3 else f" to NV{counts[-1]}"
        return f"NV{counts[1]}{most}, some pairs over a third GPU"
    return f"NV{counts[0]}{'' if len(counts) == 1 else f' to NV{counts[-1]}'}{how}"


def _ways_between(report: GpuReport, groups: Sequence[Sequence[int]]) -> Iterator[str]:
    pairs = pair_table(report)
    found = {
        pair.path
        for one, other in combinations(groups, 2)
        for a in one
        for b in other
        if (pair := pairs.get((a, b)))
    }
    for path in (*reversed(PATHS), None):
        if path in found:
            yield _WAYS[path]


def name_gpus(indices: Sequence[int]) -> str:
    """Return "GPU 3", "GPUs 0-3", "GPUs 0, 3"."""
    if len(indices) == 1:
        return f"GPU {indices[0]}"
    in_a_row = list(indices) == list(range(indices[0], indices[-1] + 1))
    if in_a_row and len(indices) > 2:
        return f"GPUs {indices[0]}-{indices[-1]}"
    return "GPUs " + ", ".join(map(str, indices))
