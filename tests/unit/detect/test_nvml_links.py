"""NVLinks, paths and P2P as NVML tells them, on simulated machines with something changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.detect.nvml_links import count_nvlinks, list_bits, parse_bus
from launcher.model.machine import Gpu, GpuReport, NvLinks, Pair
from sim import description, driver
from testing.topologies import read_texts

Changes = Mapping[str, Mapping[str, str | None]]

H100 = driver.find("h100-8x").read_text()  # four NVSwitches
DGX1 = driver.find("dgx1-v100-8x").read_text()  # GPUs linked to each other
BRIDGE = driver.find("rtx3090-2x-nvlink").read_text()


def read(text: str, changes: Changes | None = None) -> GpuReport:
    (report,) = read_texts([description.edit(text, changes or {})])
    assert report.failure is None
    return report


def pair(report: GpuReport, a: int, b: int) -> Pair:
    return next(pair for pair in report.pairs if (pair.a, pair.b) == (a, b))


def rows(*lines: str) -> dict[str, str]:
    return {str(number): line for number, line in enumerate(lines)}


# --- what is counted -------------------------------------------------------------------------


def test_links_of_a_mesh_are_told_by_the_address_at_their_other_end() -> None:
    report = read(DGX1)
    assert [(p.b, p.nvlinks) for p in report.pairs if p.a == 0] == [
        (1, 1), (2, 1), (3, 2), (4, 2), (5, 0), (6, 0), (7, 0),
    ]  # fmt: skip
    assert {p.via for p in report.pairs} == {"direct", None}
    assert {(gpu.nvlinks_up, gpu.nvlink_version) for gpu in report.gpus} == {(6, "2.0")}


def test_through_switches_every_link_reaches_every_gpu() -> None:
    report = read(H100)
    assert {(p.nvlinks, p.via) for p in report.pairs} == {(18, "switch")}
    (links,) = {gpu.nvlinks for gpu in report.gpus}
    assert [(link.count, link.to) for link in links] == [(4, "switch")] * 2 + [(5, "switch")] * 2
    assert report.gpus[0].nvlink_version == "4.0"


def test_switches_that_a_vm_does_not_see() -> None:
    hidden = {"gpu *": {"nvlink 0-3": "enabled, version 4.0, switch, p2p"}}
    for gone in ("nvlink 4-7", "nvlink 8-12", "nvlink 13-17"):
        hidden["gpu *"][gone] = "disabled"
    report = read(H100, hidden)
    assert {(p.nvlinks, p.via) for p in report.pairs} == {(4, "hidden switch")}
    assert {(gpu.nvlinks_up, gpu.nvlinks_down) for gpu in report.gpus} == {(4, 14)}


def test_a_link_that_is_down_counts_for_no_pair() -> None:
    """The lesser of the two counts: what one of them sends, the other must take."""
    report = read(H100, {"gpu 2": {"nvlink 13-17": "disabled"}})
    assert pair(report, 2, 3).nvlinks == pair(report, 0, 2).nvlinks == 13
    assert pair(report, 0, 1).nvlinks == 18
    assert (report.gpus[2].nvlinks_up, report.gpus[2].nvlinks_down) == (13, 5)


def test_links_to_the_cpu_join_no_gpus() -> None:
    """As on POWER9: both GPUs have links of which no address is told."""
    npu = {"nvlink 0-3": "enabled, version 2.0, ibmnpu"}
    report = read(BRIDGE, {"gpu 0": npu, "gpu 1": npu})
    assert (pair(report, 0, 1).nvlinks, pair(report, 0, 1).via) == (0, None)


def test_no_nvlink_where_p2p_over_it_is_refused() -> None:
    """nvidia-smi prints NV# only where this status is OK; what it is else, does not matter."""
    for status in ("NS", "DR", "U"):
        refused = {"p2p nvlink": rows(f"X {status}", f"{status} X")}
        found = pair(read(BRIDGE, refused), 0, 1)
        assert (found.nvlinks, found.via, found.path) == (0, None, "PHB")
    untold = {"p2p nvlink": rows("X ?", "? X")}
    assert pair(read(BRIDGE, untold), 0, 1).nvlinks == 4


@pytest.mark.parametrize(
    ("other", "joined"),
    [
        ({}, True),
        ({"fabric_clique_id": "7"}, False),
        ({"fabric_cluster_uuid": "11111111-0000-0000-0000-000000000000"}, False),
        ({"fabric_clique_id": "7", "fabric_state": "in-progress"}, True),  # not yet told
    ],
)
def test_gpus_of_other_fabrics_do_not_reach_each_other(other: dict[str, str], joined: bool) -> None:
    report = read(H100, {"gpu 5": other})
    assert (pair(report, 4, 5).nvlinks > 0) == joined
    assert pair(report, 4, 6).nvlinks == 18


@pytest.mark.parametrize(
    ("state", "said"),
    [("not-supported", None), ("not-started", "not started"), ("in-progress", "in progress")],
)
def test_the_state_of_the_fabric(state: str, said: str | None) -> None:
    report = read(H100, {"gpu *": {"fabric_state": state}})
    assert {gpu.fabric for gpu in report.gpus} == {said}


def test_the_first_version_of_the_fabric_call_does_too() -> None:
    old = {"faults": {"nvmlDeviceGetGpuFabricInfoV": "return 13"}}  # the driver lacks the symbol
    assert {gpu.fabric for gpu in read(H100, old).gpus} == {"completed"}


def test_a_card_without_nvlink() -> None:
    (gpu,) = read(driver.find("rtx4090-1x").read_text()).gpus
    assert (gpu.nvlinks, gpu.nvlinks_up, gpu.nvlinks_down, gpu.nvlink_version) == ((), 0, 0, None)


# --- PCIe, P2P, affinity ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["INTERNAL", "PIX", "PXB", "PHB", "NODE", "SYS", None])
def test_the_way_over_pcie(path: str | None) -> None:
    word = path or "?"
    report = read(BRIDGE, {"pcie": rows(f"X {word}", f"{word} X")})
    assert pair(report, 0, 1).path == path


@pytest.mark.parametrize("status", ["OK", "CNS", "GNS", "TNS", "DR", "NS", "U", None])
def test_p2p(status: str | None) -> None:
    word = status or "?"
    report = read(BRIDGE, {"p2p read": rows(f"X {word}", f"{word} X")})
    assert pair(report, 0, 1).p2p == status


@pytest.mark.parametrize(("memory", "node"), [("3", 3), ("0-3", None), ("", None), (None, None)])
def test_the_numa_node_as_nvml_tells_it(memory: str | None, node: int | None) -> None:
    """A container's cpuset can make it several; then none of them is the GPU's."""
    report = read(BRIDGE, {"gpu *": {"memory_affinity": memory}})
    assert {gpu.numa_node for gpu in report.gpus} == {node}


@pytest.mark.parametrize("code", [15, 4, 999])
def test_a_way_that_is_not_told_hides_neither_a_gpu_nor_its_links(code: int) -> None:
    call = "nvmlDeviceGetTopologyCommonAncestor gpu 3"
    report = read(DGX1, {"faults": {call: f"return {code}"}})
    assert len(report.gpus) == 8
    assert {p.path is None for p in report.pairs if 3 in (p.a, p.b)} == {True}
    others = [p for p in read(DGX1).pairs if 3 not in (p.a, p.b)]
    assert [p for p in report.pairs if 3 not in (p.a, p.b)] == others
    assert pair(report, 0, 3).nvlinks == 2


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("00000000:18:00.0", (0, 0x18, 0)),
        ("0000:18:00.0", (0, 0x18, 0)),
        ("0000000F:01:00.0", (0xF, 1, 0)),
        ("00010000:af:1f.0", (0x10000, 0xAF, 0x1F)),
        (b"00000000:18:00.0", (0, 0x18, 0)),
        ("", None),
        (None, None),
        ("nonsense", None),
        ("fffffff:ffff:ff", None),  # NCCL's own name for what a VM does not see
        ("FFFFFFFF:FF:1F.7", None),
    ],
)
def test_addresses(text: Any, address: tuple[int, int, int] | None) -> None:
    assert parse_bus(text) == address


@given(st.sets(st.integers(0, 1023), max_size=40), st.integers(1, 5))
def test_masks_are_written_as_the_kernel_writes_them(bits: set[int], run: int) -> None:
    numbers = {bit + more for bit in bits for more in range(run) if bit + more < 1024}
    words = [sum(1 << n % 64 for n in numbers if n // 64 == word) for word in range(16)]
    text = list_bits(words)
    read_back: list[int] = []
    for part in text.split(",") if text else []:
        first, _, last = part.partition("-")
        assert not read_back or int(first) > read_back[-1] + 1  # else it were one run
        assert not last or int(last) > int(first)
        read_back += range(int(first), int(last or first) + 1)
    assert read_back == sorted(numbers)


def gpu(index: int, *links: NvLinks) -> Gpu:
    return Gpu(
        index, f"GPU-{index}", "", f"00000000:0{index}:00.0", None, None, None, nvlinks=links
    )


def test_links_through_switches_and_without_address_are_not_added_up() -> None:
    seen, unseen = NvLinks(4, "switch", "00000000:F0:00.0"), NvLinks(8, "switch")
    assert count_nvlinks(gpu(0, seen, unseen), gpu(1, seen, unseen)) == (4, "switch")
    assert count_nvlinks(gpu(0, seen), gpu(1, unseen)) == (0, None)
    assert count_nvlinks(gpu(0, NvLinks(2, "unknown")), gpu(1, unseen)) == (2, "hidden switch")
    assert count_nvlinks(gpu(0, NvLinks(6, None)), gpu(1, NvLinks(6, None))) == (0, None)


def test_the_spelling_of_an_address_does_not_matter() -> None:
    links = NvLinks(3, "gpu", "0000:01:00.0")
    assert count_nvlinks(gpu(0, links), gpu(1)) == (3, "direct")
