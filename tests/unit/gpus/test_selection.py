"""The best N GPUs: traps that real machines set, and a search of every set that must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.gpus.selection import best_set
from launcher.gpus.topology import pair_table, strength
from launcher.model.machine import Gpu, GpuReport, Pair
from testing.printed import NAMES
from testing.topologies import reports
from testing.values import replace


def chosen(report: GpuReport, size: int, without: Sequence[int] = ()) -> list[int]:
    left = [gpu for gpu in report.gpus if gpu.index not in without]
    return [gpu.index for gpu in best_set(left, pair_table(report), size)]


# --- what real machines do to a simple allocator ---------------------------------------------


def test_pairs_joined_by_crossed_bridges() -> None:
    """The bridge of {0,3} crosses sockets, so it comes last; PCI order decides the first two."""
    report, taken = reports()["a100-6x-nvbridge-crossed-pairs"], list[int]()
    pairs = []
    while len(taken) < len(report.gpus):
        pairs.append(chosen(report, 2, without=taken))
        taken += pairs[-1]
    assert pairs == [[1, 2], [4, 5], [0, 3]]
    assert chosen(report, 2, without=[1, 4]) == [0, 3]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_one_numa_node_where_every_way_is_as_long(size: int) -> None:
    report = reports()["rtx4090-8x-all-sys"]
    # With GPU 0 in use and PCI order alone it would be 1, 2, 3 and 4: two nodes.
    for without in ([], [0], [0, 1]):
        nodes = {report.gpus[index].numa_node for index in chosen(report, size, without)}
        assert len(nodes) == 1


def test_one_switch_before_several() -> None:
    assert chosen(reports()["gpu-4x-pxb-pix-sys"], 2) == [2, 3]


def test_three_of_a_cube_mesh_are_a_triangle() -> None:
    report = reports()["dgx1-v100-8x-hybridcube-mlx5"]
    pairs = pair_table(report)
    for without in ([], [0, 3], [1, 2, 7]):
        assert all(pairs[both].nvlinks for both in combinations(chosen(report, 3, without), 2))


def test_three_of_a_box_with_four_and_two() -> None:
    assert chosen(reports()["gpu-6x-pix-node-sys"], 3) == [0, 1, 2]


# --- the order, one criterion at a time ------------------------------------------------------


@dataclass(frozen=True)
class Trio:
    """Three GPUs that nothing connects with others."""

    nvlinks: tuple[int, int, int]
    one_node: bool
    p2p: str | None
    free: int
    address: int

    def gpus(self, first: int) -> tuple[Gpu, ...]:
        return tuple(
            replace(
                gpu(first + at, self.address + at),
                memory_free=self.free,
                numa_node=0 if self.one_node else at,
            )
            for at in range(3)
        )

    def pairs(self, first: int) -> tuple[Pair, ...]:
        both = zip(combinations(range(first, first + 3), 2), self.nvlinks, strict=True)
        return tuple(Pair(a, b, links, p2p=self.p2p, path="SYS") for (a, b), links in both)


def gpu(index: int, address: int) -> Gpu:
    return Gpu(index, f"GPU-{index}", "GPU", f"00000000:{address:02X}:00.0", None, None, None)


FIRST, LAST = 0, 8  # PCI addresses


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(
            Trio((1, 1, 1), False, None, 0, LAST),
            Trio((4, 4, 0), True, "OK", 9, FIRST),
            id="weakest",
        ),
        pytest.param(
            Trio((1, 2, 1), False, None, 0, LAST), Trio((1, 1, 1), True, "OK", 9, FIRST), id="sum"
        ),
        pytest.param(
            Trio((1, 1, 1), True, None, 0, LAST), Trio((1, 1, 1), False, "OK", 9, FIRST), id="node"
        ),
        pytest.param(
            Trio((1, 1, 1), True, "OK", 0, LAST), Trio((1, 1, 1), True, "NS", 9, FIRST), id="p2p"
        ),
        pytest.param(
            Trio((1, 1, 1), True, "OK", 9, LAST), Trio((1, 1, 1), True, "OK", 0, FIRST), id="free"
        ),
        pytest.param(
            Trio((1, 1, 1), True, "OK", 9, FIRST),
            Trio((1, 1, 1), True, "OK", 9, LAST),
            id="address",
        ),
    ],
)
def test_each_criterion_outweighs_all_that_follow(better: Trio, worse: Trio) -> None:
    for one, other, first in ((better, worse, 0), (worse, better, 3)):
        report = GpuReport((*one.gpus(0), *other.gpus(3)), pairs=(*one.pairs(0), *other.pairs(3)))
        assert chosen(report, 3) == [first, first + 1, first + 2]


# --- every set, one after another ------------------------------------------------------------

Pairs = Mapping[tuple[int, int], Pair]


def best_of_all(
    gpus: Sequence[Gpu], pairs: Pairs, size: int, required: Sequence[Gpu] = ()
) -> tuple[Gpu, ...]:
    """Return the first of the most worthy sets, in PCI order, after looking at all of them.

    Worth is as docs/topology.md orders it.
    """
    in_order = sorted(gpus, key=lambda gpu: gpu.pci_bus_id)
    told = {
        (one, other): worth_of_pair(a, b, pairs.get((a.index, b.index)))
        for (one, a), (other, b) in combinations(enumerate(in_order), 2)
    }

    def worth(places: tuple[int, ...]) -> tuple[int, ...]:
        rows = [told[both] for both in combinations(places, 2)] or [(0, 0, 0)]
        links, nodes, p2p = zip(*rows, strict=True)
        free = sum(in_order[place].memory_free or 0 for place in places)
        return min(links), sum(links), sum(nodes), sum(p2p), free

    fixed = {in_order.index(gpu) for gpu in required}
    sets = (found for found in combinations(range(len(gpus)), size) if fixed <= set(found))
    return tuple(in_order[place] for place in max(sets, key=worth))


def worth_of_pair(a: Gpu, b: Gpu, link: Pair | None) -> tuple[int, int, int]:
    together = a.numa_node == b.numa_node and a.numa_node is not None
    return (strength(link) if link else 0), together, link is not None and link.p2p == "OK"


@pytest.mark.parametrize("name", NAMES)
def test_the_best_of_every_real_machine(name: str) -> None:
    report = reports()[name]
    pairs = pair_table(report)
    for size in range(1, len(report.gpus) + 1):
        assert best_set(report.gpus, pairs, size) == best_of_all(report.gpus, pairs, size)


LINKS = st.tuples(
    st.sampled_from([0, 1, 2, 5]),
    st.sampled_from(["SYS", "PIX", None]),
    st.sampled_from(["OK", "NS", None]),
)


@st.composite
def machines(draw: st.DrawFn) -> tuple[list[Gpu], dict[tuple[int, int], Pair]]:
    """Machines with few values for everything, so that ties are broken at every level."""
    count = draw(st.integers(1, 8))
    addresses = draw(st.permutations(range(count)))
    some = st.sampled_from
    gpus = [
        replace(
            gpu(index, addresses[index]),
            memory_free=draw(some([None, 0, 1, 5])),
            numa_node=draw(some([None, 0, 1])),
        )
        for index in range(count)
    ]
    kinds = draw(st.lists(LINKS, min_size=1, max_size=3))
    untold = draw(some([set(), {(0, 1)}]))
    pairs = tuple(
        Pair(a, b, nvlinks, path=path, p2p=p2p)
        for a, b in combinations(range(count), 2)
        for nvlinks, path, p2p in [draw(some(kinds))]
        if (a, b) not in untold
    )
    return gpus, pair_table(GpuReport(tuple(gpus), pairs=pairs))


@given(machines(), st.data())
def test_the_best_of_any_machine(machine: Any, data: st.DataObject) -> None:
    gpus, pairs = machine
    size = data.draw(st.integers(1, len(gpus)))
    required = data.draw(st.lists(st.sampled_from(gpus), max_size=size, unique=True))
    best = best_of_all(gpus, pairs, size, required)
    assert best_set(data.draw(st.permutations(gpus)), pairs, size, required) == best


def test_required_gpus_that_are_far_apart() -> None:
    """Their own link is the weakest of every set, so the sum decides."""
    gpus = [gpu(index, address=index) for index in range(4)]
    nvlinks = {(0, 1): 0, (0, 2): 1, (1, 2): 1, (0, 3): 5, (1, 3): 0, (2, 3): 0}
    pairs = tuple(Pair(a, b, links, path="SYS") for (a, b), links in nvlinks.items())
    table = pair_table(GpuReport(tuple(gpus), pairs=pairs))
    assert best_set(gpus, table, 3, gpus[:2]) == (gpus[0], gpus[1], gpus[3])
    assert best_set(gpus, table, 3) == (gpus[0], gpus[2], gpus[3])


# --- what cannot be ---------------------------------------------------------------------------


def test_more_than_there_are() -> None:
    report = reports()["rtx3090-2x-nv4"]
    for size in (0, 3):
        with pytest.raises(ValueError, match=f"cannot choose {size} of 2 GPUs"):
            best_set(report.gpus, pair_table(report), size)


def test_required_gpus_that_are_not_there_or_too_many() -> None:
    report = reports()["gpu-4x-pxb-pix-sys"]
    pairs = pair_table(report)
    with pytest.raises(ValueError, match="with GPU 3 among them"):
        best_set(report.gpus[:3], pairs, 2, report.gpus[3:])
    with pytest.raises(ValueError, match="cannot choose 2 of 4 GPUs with 3 GPUs among them"):
        best_set(report.gpus, pairs, 2, report.gpus[:3])
    assert best_set(report.gpus, pairs, 2, [report.gpus[0]] * 2) == report.gpus[:2]
