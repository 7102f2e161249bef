"""Real matrices, by way of a simulated machine, and back; and what is said of them in words."""

from __future__ import annotations

import re
from itertools import combinations

import pytest

from launcher.gpus import topology
from launcher.model.machine import Gpu, GpuReport, LostGpu, Nic, Pair
from testing.printed import NAMES, Matrix, matrices, parse
from testing.topologies import card_of, nvlinks, reports
from testing.values import replace


def printed(report: GpuReport) -> Matrix:
    """Return what we print of a report, read as nvidia-smi's matrices are."""
    return parse("\n".join(topology.matrix(report)))


# --- the collection itself -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_matrix_has_the_gpus_of_its_name_and_every_cell_that_is_not_cut_off(name: str) -> None:
    matrix = matrices()[name]
    if said := re.search(r"(\d+)x|(\d+)of8", name):
        assert matrix.gpus == int(said[1] or said[2])
    every = {(a, b) for a in range(matrix.gpus) for b in range(matrix.gpus)}
    assert set(matrix.cells) <= every
    assert (set(matrix.cells) == every) or not matrix.complete


# --- the matrix ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if not name.endswith("-mp")])
def test_the_matrix_has_the_same_cells(name: str) -> None:
    matrix, ours = matrices()[name], printed(reports()[name]).cells
    assert {both: ours[both] for both in matrix.cells} == matrix.cells


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("-mp")])
def test_the_matrix_of_pcie_alone_is_below_the_nvlinks(name: str) -> None:
    matrix, report = matrices()[name], reports()[name]
    assert {pair.path for pair in report.pairs} <= set(topology.PATHS)
    for pair in report.pairs:
        assert pair.path == matrix.cells[pair.a, pair.b]
        assert topology.cell(pair) == f"NV{nvlinks(matrix, pair.a, pair.b)}"


@pytest.mark.parametrize("name", NAMES)
def test_the_matrix_has_the_same_affinities(name: str) -> None:
    matrix, ours = matrices()[name], printed(reports()[name])
    assert {gpu: ours.cpus[gpu] for gpu in matrix.cpus} == matrix.cpus
    assert ours.nodes == {gpu: node for gpu, node in matrix.nodes.items() if node.isdecimal()}


@pytest.mark.parametrize("name", NAMES)
def test_what_nvlinks_go_through(name: str) -> None:
    card = card_of(matrices()[name])
    switch = "hidden switch" if card.hidden else "switch"
    expected = switch if card.switches else "direct"
    assert {pair.via for pair in reports()[name].pairs if pair.nvlinks} <= {expected}


def test_cells_that_no_machine_of_the_collection_has() -> None:
    assert topology.cell(None) == "?"
    assert topology.cell(Pair(0, 1)) == "?"
    assert topology.cell(Pair(0, 1, path="INTERNAL")) == "PIX"  # nvidia-smi has no word of its own


def test_a_lost_gpu_leaves_its_siblings_their_numbers() -> None:
    report = reports()["gpu-4x-pxb-pix-sys"]
    report = replace(
        report,
        gpus=tuple(gpu for gpu in report.gpus if gpu.index != 1),
        lost=(LostGpu(1, "GPU is lost", 15),),
        pairs=tuple(pair for pair in report.pairs if 1 not in (pair.a, pair.b)),
    )
    header, *rows = (line.split("\t") for line in topology.matrix(report))
    assert header[1:4] == ["GPU0", "GPU2", "GPU3"]
    assert [row[:4] for row in rows] == [
        ["GPU0", " X ", "SYS", "SYS"],
        ["GPU2", "SYS", " X ", "PIX"],
        ["GPU3", "SYS", "PIX", " X "],
    ]


def test_network_cards_are_columns_after_the_gpus() -> None:
    report = reports()["rtx3090-2x-nv4"]
    nics = (
        Nic("mlx5_0", "0000:05:00.0", ((0, "PIX"), (1, "PXB"))),
        Nic("mlx5_1", "", ((1, "SYS"),)),
    )
    header, *rows = (line.split("\t") for line in topology.matrix(report, nics)[:3])
    assert header[3:5] == ["NIC0", "NIC1"]
    assert [row[3:5] for row in rows] == [["PIX", "?"], ["PXB", "SYS"]]


# --- strength --------------------------------------------------------------------------------


def test_one_nvlink_is_stronger_than_any_way_over_pcie() -> None:
    best_pcie = max(topology.strength(Pair(0, 1, path=path)) for path in topology.PATHS)
    assert topology.strength(Pair(0, 1, nvlinks=1)) > best_pcie


def test_ways_over_pcie_are_in_the_order_of_nvml() -> None:
    levels = ["INTERNAL", "PIX", "PXB", "PHB", "NODE", "SYS", None]  # nvmlGpuTopologyLevel_t
    found = [topology.strength(Pair(0, 1, path=level)) for level in levels]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(levels)


# --- islands, and what is said of them -------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_islands_are_what_nvlink_joins(name: str) -> None:
    report = reports()[name]
    groups = topology.islands(report)
    home = {gpu: number for number, group in enumerate(groups) for gpu in group}
    assert sorted(home) == [gpu.index for gpu in report.gpus]
    assert sum(map(len, groups)) == len(home)
    linked = {(pair.a, pair.b) for pair in report.pairs if pair.nvlinks}
    assert all(home[a] == home[b] for a, b in linked)
    for group in groups:  # no part of an island is without a link to the rest of it
        for size in range(1, len(group) // 2 + 1):
            for part in combinations(group, size):
                rest = set(group) - set(part)
                assert any((min(a, b), max(a, b)) in linked for a in part for b in rest)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("h100-sxm-8x-nv18-2numa", "GPUs 0-7: one NVLink island, NV18 through NVSwitch"),
        ("brev-nv18-4of8-empty-affinity", "GPUs 0-3: one NVLink island, NV18 through NVSwitch"),
        (
            "dgx1-v100-8x-hybridcube-mlx5",
            "GPUs 0-7: one NVLink island, NV1 to NV2, some pairs over a third GPU",
        ),
        ("princeton-a100-4x-nv4", "GPUs 0-3: one NVLink island, NV4"),
        (
            "a100-6x-nvbridge-crossed-pairs",
            "3 NVLink islands: GPUs 0, 3 (NV12); GPUs 1, 2 (NV12); GPUs 4, 5 (NV12); between them "
            "PCIe across host bridges of one socket, PCIe across sockets",
        ),
        (
            "a100-mixed-sxm-pcie-4x",
            "1 NVLink island: GPUs 0, 1 (NV12); alone: GPUs 2, 3; between them "
            "PCIe through one switch, PCIe across sockets",
        ),
        (
            "rtx4090-8x-all-sys",
            "no NVLink; PCIe across sockets; NUMA: GPUs 0-3 on node 0; GPUs 4-7 on node 1",
        ),
        ("a10g-4x-g5.12xlarge-phb", "no NVLink; PCIe through the host bridge"),
    ],
)
def test_what_is_said_of_a_machine(name: str, sentence: str) -> None:
    assert topology.describe(reports()[name]) == [sentence]


def test_nothing_is_said_of_one_gpu() -> None:
    assert topology.describe(reports()["gb10-1x-node-nics"]) == []


def test_two_islands_joined_by_nothing_that_the_driver_tells() -> None:
    gpus = tuple(
        Gpu(n, f"GPU-{n}", "A100", f"00000000:0{n}:00.0", None, None, None) for n in range(4)
    )
    pairs = tuple(Pair(a, b, 12 if b - a == 2 else 0) for a, b in combinations(range(4), 2))
    (said,) = topology.describe(GpuReport(gpus, pairs=pairs))
    assert said == (
        "2 NVLink islands: GPUs 0, 2 (NV12); GPUs 1, 3 (NV12); between them "
        "a way that the driver does not tell"
    )


@pytest.mark.parametrize(
    ("indices", "name"),
    [([3], "GPU 3"), ([0, 1], "GPUs 0, 1"), ([2, 3, 4], "GPUs 2-4"), ([0, 2, 3], "GPUs 0, 2, 3")],
)
def test_names_of_gpus(indices: list[int], name: str) -> None:
    assert topology.name_gpus(indices) == name
