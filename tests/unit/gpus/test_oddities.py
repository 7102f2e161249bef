"""What is odd about a machine, and what only looks so."""

from __future__ import annotations

from itertools import combinations

import pytest

from launcher.gpus.oddities import oddities
from launcher.model.machine import Gpu, GpuReport, NvLinks, Pair
from launcher.model.plan import Finding
from testing.printed import NAMES
from testing.topologies import reports
from testing.values import replace

ODD = {
    "a100-6x-nvbridge-crossed-pairs": ["topology.bridge_crosses_sockets"],
    "h20-sys-fabric-down-8x.partial": ["topology.nvlinks_down"],
    "rtx5090-2x-phb": ["topology.no_p2p"],
}


def ids(report: GpuReport) -> list[str]:
    return [finding.id for finding in oddities(report)]


def only(report: GpuReport) -> Finding:
    (finding,) = oddities(report)
    assert finding.what
    assert finding.means
    assert finding.fix
    return finding


@pytest.mark.parametrize("name", NAMES)
def test_what_is_odd_about_real_machines(name: str) -> None:
    """Of the rest nothing is: meshes across sockets, cards without a bridge, VMs without NUMA."""
    assert ids(reports()[name]) == ODD.get(name, [])


def test_a_board_whose_nvlinks_are_down_is_called_that() -> None:
    finding = only(reports()["h20-sys-fabric-down-8x.partial"])
    assert finding.what == (
        "GPUs 0-7: an NVLink board whose NVLinks are down (fabric: not started)"
    )


def test_the_bridge_that_crosses_sockets_is_named() -> None:
    finding = only(reports()["a100-6x-nvbridge-crossed-pairs"])
    assert finding.what.startswith("GPUs 0, 3: ")


def test_cards_near_each_other_without_p2p_are_named() -> None:
    finding = only(reports()["rtx5090-2x-phb"])
    assert finding.what.startswith("GPUs 0, 1: ")
    assert "GNS" in finding.what


# --- machines made for one question ----------------------------------------------------------


def machine(name: str, count: int = 2, pair: Pair | None = None, **changes: object) -> GpuReport:
    """Return `count` GPUs that are alike, every two of them connected as in `pair`."""
    gpu = Gpu(0, "", name, "", None, None, None)
    gpus = tuple(
        replace(gpu, index=index, pci_bus_id=f"00000000:{index:02X}:00.0", **changes)  # type: ignore[arg-type]
        for index in range(count)
    )
    link = pair or Pair(0, 1, path="SYS")
    both = combinations(range(count), 2)
    return GpuReport(gpus, pairs=tuple(replace(link, a=a, b=b) for a, b in both))


DOWN = (NvLinks(12, None),)
UP = (NvLinks(12, "switch", "00000000:F0:00.0"),)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H200",
        "NVIDIA H20",
        "NVIDIA B200",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A800-SXM4-80GB",
        "Tesla V100-SXM2-32GB",
    ],
)
def test_boards_have_nvlink(name: str) -> None:
    assert ids(machine(name, nvlinks=DOWN)) == ["topology.nvlinks_down"]
    assert ids(machine(name)) == ["topology.nvlinks_down"]  # a driver that shows no link at all
    joined = Pair(0, 1, 12, "switch", "SYS")
    assert ids(machine(name, pair=joined, nvlinks=UP)) == []
    assert ids(machine(name, count=1, nvlinks=DOWN)) == []  # nobody to be linked to
    assert ids(machine(name, mig_enabled=True, nvlinks=DOWN)) == []


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100 PCIe",
        "NVIDIA H100 NVL",
        "NVIDIA H200 NVL",
        "NVIDIA A100-PCIE-40GB",
        "NVIDIA A100 80GB PCIe",
        "NVIDIA GeForce RTX 3090",
        "NVIDIA A10G",
        "Tesla T4",
    ],
)
def test_cards_need_no_bridge(name: str) -> None:
    assert ids(machine(name, nvlinks=DOWN)) == []


@pytest.mark.parametrize(
    ("pair", "crosses"),
    [
        (Pair(0, 1, 12, "direct", "SYS"), True),
        (Pair(0, 1, 12, "direct", "NODE"), False),
        (Pair(0, 1, 12, "switch", "SYS"), False),  # two of eight, passed into a container
    ],
)
def test_bridges_that_cross_sockets(pair: Pair, crosses: bool) -> None:
    found = ids(machine("NVIDIA A100 80GB PCIe", pair=pair))
    assert found == (["topology.bridge_crosses_sockets"] if crosses else [])


def test_a_bridge_between_two_numa_nodes_crosses_sockets_whatever_its_path() -> None:
    report = machine("NVIDIA A100 80GB PCIe", pair=Pair(0, 1, 12, "direct"))
    apart = tuple(replace(gpu, numa_node=gpu.index) for gpu in report.gpus)
    assert ids(replace(report, gpus=apart)) == ["topology.bridge_crosses_sockets"]


def test_two_of_a_mesh_are_no_bridge() -> None:
    pair = Pair(0, 1, 2, "direct", "SYS")
    links = (NvLinks(2, "gpu", "00000000:01:00.0"),)
    assert ids(machine("Tesla V100-SXM2-32GB", pair=pair, nvlinks=links)) == []
    assert ids(machine("NVIDIA A100 80GB PCIe", count=3, pair=pair, nvlinks=links)) == []


def test_a_card_with_fewer_lanes_than_it_could_have() -> None:
    report = machine("NVIDIA GeForce RTX 4090", pcie_width=16, pcie_width_max=16)
    assert ids(report) == []
    narrow = (report.gpus[0], replace(report.gpus[1], pcie_width=4))
    finding = only(replace(report, gpus=narrow))
    assert finding.id == "topology.narrow_pcie"
    assert finding.what == "GPU 1: 4 of 16 PCIe lanes"


@pytest.mark.parametrize("path", ["PHB", "PXB", "PIX", "NODE", "SYS"])
@pytest.mark.parametrize("p2p", ["OK", "CNS", "GNS", "NS", None])
def test_near_without_p2p(path: str, p2p: str | None) -> None:
    report = machine("NVIDIA GeForce RTX 4090", pair=Pair(0, 1, path=path, p2p=p2p))
    odd = path in ("PHB", "PXB", "PIX") and p2p not in ("OK", None)
    assert ids(report) == (["topology.no_p2p"] if odd else [])


def test_bad_memory_that_waits_for_a_reset() -> None:
    report = machine("NVIDIA A10G", remap_pending=False)
    waiting = (report.gpus[0], replace(report.gpus[1], remap_pending=True))
    finding = only(replace(report, gpus=waiting))
    assert finding.id == "hardware.remap_pending"
    assert finding.what.startswith("GPU 1 ")
    assert "-i 1" in finding.fix
