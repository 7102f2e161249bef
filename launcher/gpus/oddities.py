"""What is odd about how this machine's GPUs are connected.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from launcher.gpus.fabric import TROUBLES, is_on_board
from launcher.gpus.topology import name_gpus
from launcher.model.machine import Gpu, GpuReport, Pair
from launcher.model.plan import Finding


def oddities(report: GpuReport) -> tuple[Finding, ...]:
    """Return everything that a person would want to know before choosing GPUs."""
    return (
        *_links_down(report),
        *_worse_joined(report),
        *_crossing_bridges(report),
        *_narrow_cards(report),
        *_without_p2p(report),
        *_waiting_for_reset(report),
    )


def _links_down(report: GpuReport) -> Iterator[Finding]:
    down = [gpu.index for gpu in report.gpus if _should_be_linked(gpu, report)]
    if not down:
        return
    fabric = {gpu.fabric for gpu in report.gpus if gpu.fabric not in (None, "completed")}
    state = f" (fabric: {', '.join(sorted(fabric))})" if fabric else ""
    yield Finding(
        "topology.nvlinks_down",
        f"{name_gpus(down)}: an NVLink board whose NVLinks are down{state}",
        "GPUs talk over PCIe, many times slower; CUDA may not start at all (error 802)",
        "on the host: sudo systemctl restart nvidia-fabricmanager; nvidia-smi nvlink -s",
    )


def _should_be_linked(gpu: Gpu, report: GpuReport) -> bool:
    """A card with bridge connectors and no bridge has links that are down, and is in order."""
    return not (gpu.nvlinks_up or gpu.mig_enabled or len(report.gpus) < 2) and is_on_board(gpu)


def _worse_joined(report: GpuReport) -> Iterator[Finding]:
    down = {gpu.index for gpu in report.gpus if _should_be_linked(gpu, report)}
    for trouble in TROUBLES:
        if trouble.find(report).keys() - down and (finding := trouble.finding(report)):
            yield finding


def _crossing_bridges(report: GpuReport) -> Iterator[Finding]:
    """A bridge joins two cards and no others; on a mesh, links across sockets are by design."""
    nodes = {gpu.index: gpu.numa_node for gpu in report.gpus if not is_on_board(gpu)}
    linked = [
        pair for pair in report.pairs if pair.via == "direct" and {pair.a, pair.b} <= set(nodes)
    ]
    peers = Counter(index for pair in linked for index in (pair.a, pair.b))
    crossing = [
        pair for pair in linked if peers[pair.a] == peers[pair.b] == 1 and _crosses(pair, nodes)
    ]
    if crossing:
        each = "; ".join(name_gpus((pair.a, pair.b)) for pair in crossing)
        yield Finding(
            "topology.bridge_crosses_sockets",
            f"{each}: joined by an NVLink bridge that crosses sockets",
            "they belong together, though their numbers and their CPUs say otherwise",
            "let the launcher choose: LAUNCHER_GPUS=2",
        )


def _crosses(pair: Pair, nodes: dict[int, int | None]) -> bool:
    known = {nodes.get(pair.a), nodes.get(pair.b)} - {None}
    return pair.path == "SYS" or len(known) == 2


def _narrow_cards(report: GpuReport) -> Iterator[Finding]:
    """Width only: an idle card lowers its PCIe generation, never its lanes."""
    narrow: dict[tuple[int, int], list[int]] = {}
    for gpu in report.gpus:
        if gpu.pcie_width and gpu.pcie_width_max and gpu.pcie_width < gpu.pcie_width_max:
            narrow.setdefault((gpu.pcie_width, gpu.pcie_width_max), []).append(gpu.index)
    for (width, most), members in narrow.items():
        yield Finding(
            "topology.narrow_pcie",
            f"{name_gpus(members)}: {width} of {most} PCIe lanes",
            "copies to and from the host are that much slower",
            "another slot, another riser, or the slot's bifurcation in the BIOS",
        )


def _without_p2p(report: GpuReport) -> Iterator[Finding]:
    near = [
        pair for pair in report.pairs if pair.path in ("PHB", "PXB", "PIX") and not pair.nvlinks
    ]
    refused = [pair for pair in near if pair.p2p not in (None, "OK")]
    if refused:
        members = sorted({index for pair in refused for index in (pair.a, pair.b)})
        yield Finding(
            "topology.no_p2p",
            f"{name_gpus(members)}: near each other, but without peer-to-peer ({refused[0].p2p})",
            "NCCL copies through host memory",
            "none for GeForce cards; elsewhere turn off ACS and IOMMU in the BIOS",
        )


def _waiting_for_reset(report: GpuReport) -> Iterator[Finding]:
    for gpu in report.gpus:
        if gpu.remap_pending:
            yield Finding(
                "hardware.remap_pending",
                f"GPU {gpu.index} has bad memory that waits to be taken out of use",
                "it works on, and may fail",
                f"on the host, when nothing runs: sudo nvidia-smi --gpu-reset -i {gpu.index}",
            )
