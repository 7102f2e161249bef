"""How much the links between GPUs should carry, by what NCCL counts on.  Pure.

NCCL's own numbers are below what the links are sold as: protocol and switches take their part
(NVIDIA/nccl, src/graph/topo.h: SM*_NVLINK_BW and PCI_BW; src/graph/topo.cc, ncclTopoNVLinkBw).
"""

from __future__ import annotations

from collections.abc import Sequence

from launcher.gpus.topology import islands, pair_table
from launcher.model.machine import Gpu, GpuReport
from launcher.model.named_tuple import NamedTuple

_GB = 1e9
# GB/s of one NVLink in one direction, by the oldest compute capability that has it; bridges of
# Ampere's workstation cards (8.6) are slower than its boards.
_NVLINK = (((10, 0), 40.1), ((9, 0), 20.6), ((8, 6), 12.0), ((7, 0), 20.0), ((6, 0), 18.0))
_PCIE_3_X16 = 12.0  # GB/s; twice as much with each generation


class Expected(NamedTuple):
    """What links should carry in one direction."""

    bytes_per_second: float
    links: str  # "NV18", "PCIe 4.0 x16"
    nvlink: bool


def between(report: GpuReport, one: int, other: int) -> Expected | None:
    """Return what two GPUs should reach; None where the driver does not tell their links."""
    gpus = {gpu.index: gpu for gpu in report.gpus}
    pair = pair_table(report).get((one, other))
    both = [gpus[index] for index in (one, other) if index in gpus]
    if len(both) < 2:
        return None
    if pair and pair.nvlinks:
        rate = min(pair.nvlinks * _per_nvlink(gpu) for gpu in both)
        return Expected(rate * _GB, f"NV{pair.nvlinks}", nvlink=True)
    return _by_pcie(both)


def of_all_reduce(report: GpuReport, members: Sequence[int]) -> Expected | None:
    """Return the bus bandwidth that all_reduce over these GPUs should reach: of the weakest one.

    Where NVSwitches add up themselves (NVLS), it is more.
    """
    gpus = [gpu for gpu in report.gpus if gpu.index in members]
    if len(gpus) < 2:
        return None
    if not any(set(members) <= set(island) for island in islands(report)):
        return _by_pcie(gpus)
    links = {gpu.index: _nvlinks_among(report, gpu.index, members) for gpu in gpus}
    weakest = min(gpus, key=lambda gpu: links[gpu.index] * _per_nvlink(gpu))
    count = links[weakest.index]
    if not count:  # joined only over a GPU that is not among them
        return _by_pcie(gpus)
    words = f"{count} NVLink{'s' * (count > 1)} a GPU"
    return Expected(count * _per_nvlink(weakest) * _GB, words, nvlink=True)


def _nvlinks_among(report: GpuReport, index: int, members: Sequence[int]) -> int:
    """Return how many links a GPU has to these: through switches, the same ones to each."""
    table = pair_table(report)
    pairs = [table[index, other] for other in members if (index, other) in table]
    direct = sum(pair.nvlinks for pair in pairs if pair.via == "direct")
    return max([direct, *(pair.nvlinks for pair in pairs if pair.via != "direct")])


def _per_nvlink(gpu: Gpu) -> float:
    known = gpu.compute_capability or (6, 0)
    return next((rate for least, rate in _NVLINK if known >= least), _NVLINK[-1][1])


def _by_pcie(gpus: Sequence[Gpu]) -> Expected | None:
    rates = [
        (_PCIE_3_X16 * 2 ** (gpu.pcie_generation_max - 3) * gpu.pcie_width / 16, gpu)
        for gpu in gpus
        if gpu.pcie_generation_max and gpu.pcie_width
    ]
    if len(rates) < len(gpus):
        return None
    rate, weakest = min(rates, key=lambda pair: pair[0])
    words = f"PCIe {weakest.pcie_generation_max}.0 x{weakest.pcie_width}"
    return Expected(rate * _GB, words, nvlink=False)
