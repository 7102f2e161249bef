"""What links should carry: in the numbers that NCCL counts on."""

from __future__ import annotations

import pytest

from launcher.gpus.bandwidth import between, of_all_reduce
from launcher.model.machine import GpuReport, Pair
from sim import driver
from testing.machines import answering, gpu
from testing.topologies import read_texts

GB = 1e9


def sim_machine(name: str) -> GpuReport:
    (report,) = read_texts([driver.find(name).read_text()])
    return report


@pytest.mark.parametrize(
    ("name", "rate", "links"),
    [
        ("h100-8x", 18 * 20.6, "NV18"),
        ("rtx3090-2x-nvlink", 4 * 12.0, "NV4"),
        ("dgx1-v100-8x", 20.0, "NV1"),
        ("a10g-4x", 24.0, "PCIe 4.0 x16"),
    ],
)
def test_two_gpus(name: str, rate: float, links: str) -> None:
    report = sim_machine(name)
    if name == "a10g-4x":
        told = {"pcie_generation_max": 4, "pcie_width": 16}
        report = report._replace(gpus=tuple(one._replace(**told) for one in report.gpus))  # type: ignore[arg-type]
    found = between(report, 0, 1)
    assert found is not None
    assert (found.bytes_per_second, found.links) == (pytest.approx(rate * GB), links)
    assert between(report, 1, 0) == found


@pytest.mark.parametrize(
    ("name", "members", "rate", "links"),
    [
        ("h100-8x", range(8), 18 * 20.6, "18 NVLinks a GPU"),
        ("h100-8x", (2, 5), 18 * 20.6, "18 NVLinks a GPU"),
        ("dgx1-v100-8x", range(8), 6 * 20.0, "6 NVLinks a GPU"),
        ("rtx3090-2x-nvlink", (0, 1), 4 * 12.0, "4 NVLinks a GPU"),
    ],
)
def test_all_reduce_over_nvlink(name: str, members: range, rate: float, links: str) -> None:
    found = of_all_reduce(sim_machine(name), tuple(members))
    assert found is not None
    assert (found.bytes_per_second, found.links) == (pytest.approx(rate * GB), links)
    assert found.nvlink


def test_over_pcie_the_weakest_card_counts() -> None:
    fast = {"pcie_generation_max": 5, "pcie_width": 16}
    report = answering(gpu(0, **fast), gpu(1, pcie_generation_max=3, pcie_width=4), gpu(2, **fast))
    found = of_all_reduce(report, (0, 1, 2))
    assert found == between(report, 0, 1)
    assert found is not None
    assert (found.bytes_per_second, found.links) == (3 * GB, "PCIe 3.0 x4")
    assert not found.nvlink


def test_a_card_that_no_nvlink_reaches_makes_it_pcie() -> None:
    told = {"pcie_generation_max": 4, "pcie_width": 16}
    pairs = (Pair(0, 1, 4, "direct", "PHB"), Pair(0, 2, path="PHB"), Pair(1, 2, path="PHB"))
    report = answering(*(gpu(at, **told) for at in range(3)))._replace(pairs=pairs)
    found = of_all_reduce(report, (0, 1, 2))
    assert found is not None
    assert found.links == "PCIe 4.0 x16"


def test_where_nothing_is_told_nothing_is_expected() -> None:
    report = answering(gpu(0), gpu(1, pcie_generation_max=4, pcie_width=16))
    assert between(report, 0, 1) is None
    assert of_all_reduce(report, (0, 1)) is None
    assert of_all_reduce(report, (0,)) is None
    assert between(report, 0, 7) is None
