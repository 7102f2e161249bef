"""What the check makes of what nodes say and measure: the odd one by its name."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from launcher.cluster.check import compare, speed, table
from launcher.cluster.check.facts import STAGES, Finding, NodeReport, Outcome, Pair, Reduced
from testing.values import replace

VERSIONS = (("launcher", "1.0"), ("torch", "2.6.0"), ("CUDA", "12.4"), ("NCCL", "2.21.5"))
NODE = NodeReport(
    0, 4, 8, "gpu0", "10.0.0.1", "gpu0", 29500, "Slurm", "eth0", 9000, VERSIONS,
    ("NVIDIA H100",) * 8, None, 8 << 30, ("InfiniBand 400 Gb/sec",) * 8,
)  # fmt: skip
NODES = tuple(
    replace(NODE, rank=n, hostname=f"gpu{n}", address=at, own_name=at)
    for n, at in enumerate(f"10.0.0.{n}" for n in range(1, 5))
)
NAMES = {node.rank: node.shown for node in NODES}


def with_odd(**changes: object) -> tuple[NodeReport, ...]:
    return (*NODES[:2], replace(NODES[2], **changes), NODES[3])


def torch(version: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, version if name == "torch" else value) for name, value in VERSIONS)


def test_nodes_that_are_alike_have_no_finding() -> None:
    assert list(compare.compare(NODES)) == []


@pytest.mark.parametrize(
    ("changes", "stage", "said"),
    [
        ({"nodes": 2}, "beliefs", "nodes: 2 on node 2 (gpu2); the other 3 have 4"),
        ({"processes": 7}, "beliefs", "processes a node: 7 on node 2 (gpu2)"),
        ({"port": 1}, "beliefs", "port: 1 on node 2"),
        ({"versions": torch("2.5.1")}, "versions", "torch: 2.5.1 on node 2 (gpu2); the other 3"),
        ({"versions": ()}, "versions", "torch: none on node 2"),
        ({"gpus": ("NVIDIA H100",) * 7}, "machines", "GPUs: 7 × NVIDIA H100 on node 2"),
        ({"gpus": ("NVIDIA A100",) * 8}, "machines", "GPUs: 8 × NVIDIA A100 on node 2"),
        ({"mtu": 1500}, "machines", "MTU: 1500 on node 2"),
        ({"memlock": 8 << 20}, "machines", "memlock: 8 MiB on node 2"),
        ({"shm": 64 << 20}, "machines", "/dev/shm: 64 MiB on node 2"),
        ({"rdma": ()}, "machines", "active RDMA ports: none on node 2"),
        ({"settings": (("NCCL_PROTO", "LL"),)}, "machines", "variables: NCCL_PROTO=LL on node 2"),
        ({"address": "127.0.1.1"}, "machines", "is 127.0.1.1 to itself, which is loopback"),
        ({"own_name": "127.0.1.1"}, "machines", "name of node 2 (gpu2) is 127.0.1.1, which is"),
        ({"own_name": ""}, "machines", "the host name of node 2 (gpu2) has no address"),
        ({"talks_by": "GLOO_SOCKET_IFNAME=eth9"}, "machines", "and no interface that is up is"),
    ],
)
def test_the_odd_one_is_named(changes: dict[str, object], stage: str, said: str) -> None:
    found = list(compare.compare(with_odd(**changes)))
    assert [one.stage for one in found][:1] == [stage]
    assert said in found[0].what
    assert all(one.means and one.fix for one in found)


def test_interfaces_may_differ() -> None:
    odd = with_odd(interface="eno1", settings=(("NCCL_SOCKET_IFNAME", "=eno1"),))
    assert list(compare.compare(odd)) == []


def test_without_a_majority_all_are_named() -> None:
    (found,) = compare.compare((NODES[0], replace(NODES[1], processes=4)))
    assert found.what == "processes a node: 8 on node 0 (gpu0); 4 on node 1 (gpu1)"


def test_two_nodes_of_one_rank() -> None:
    (found,) = compare.compare(with_odd(rank=0))
    assert found.what == "rank 0 is claimed by 2 nodes: gpu0 10.0.0.1; gpu2 10.0.0.3"
    assert found.stage == "beliefs"


def test_who_never_came() -> None:
    (found,) = compare.absent(NODES[0], NODES[:1], 60.0)
    assert found.what == "nodes 1, 2, 3 of 4 never came, in 60 s"
    assert list(compare.absent(NODES[0], NODES, 60.0)) == []
    (found,) = compare.absent(replace(NODES[0], nodes=10**6), NODES, 60.0)
    assert found.what.startswith("nodes 4, 5, 6, 7, 8, 9, 10, 11 … of 1000000 never came")


@pytest.mark.parametrize(
    ("offsets", "said"),
    [
        ({1: 0.1, 2: -0.1, 3: 0.0}, []),
        ({1: 0.1, 2: -20.0, 3: 0.0}, ["node 2 (gpu2) is 20.0 s behind"]),
        ({1: 60.0, 2: 60.1, 3: 59.9}, ["node 0 (gpu0) is 60.0 s behind"]),
    ],
)
def test_clocks(offsets: Mapping[int, float], said: list[str]) -> None:
    found = list(compare.clocks(offsets, NAMES))
    assert len(found) == len(said)
    assert all(words in one.what for words, one in zip(said, found, strict=True))


# --- who reaches whom --------------------------------------------------------------------------


def connections(bad: set[tuple[int, int]], why: str = "nothing comes back") -> list[Pair]:
    return [
        Pair(one, other, None if (one, other) in bad else 0.001, why)
        for one in range(4) for other in range(4) if one != other
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (set(), []),
        ({(n, 2) for n in (0, 1, 3)}, ["node 2 (gpu2) is reached by no other"]),
        ({(2, n) for n in (0, 1, 3)}, ["node 2 (gpu2) reaches no other"]),
        ({(n, 2) for n in (0, 1, 3)} | {(2, n) for n in (0, 1, 3)},
         ["node 2 (gpu2) is reached by no other", "node 2 (gpu2) reaches no other"]),
        ({(1, 3)}, ["node 1 (gpu1) does not reach node 3 (gpu3)"]),
    ],
)  # fmt: skip
def test_a_bad_row_is_a_node_and_a_bad_cell_a_pair(
    bad: set[tuple[int, int]], said: list[str]
) -> None:
    found = [one.what for one in compare.blame(connections(bad), NODES)]
    assert [what[: len(words)] for what, words in zip(found, said, strict=True)] == said


def test_a_node_at_the_door_that_the_user_chose() -> None:
    chosen = with_odd(talks="10.99.0.3", talks_by="GLOO_SOCKET_IFNAME=eth1")
    (found,) = compare.blame(connections({(n, 2) for n in (0, 1, 3)}), chosen)
    assert found.what.startswith("node 2 (gpu2) is reached by no other at 10.99.0.3 (nothing comes")
    assert found.what.endswith("GLOO_SOCKET_IFNAME=eth1")
    assert found.fix == "unset it there; the way to the others is eth0"
    (found,) = compare.blame([Pair(0, 2, None, "refused"), Pair(2, 0, 0.1)], chosen)
    assert "at 10.99.0.3 (refused)" in found.what


def test_a_pair_of_nodes_that_there_are_not() -> None:
    assert list(compare.blame([Pair(0, 77, None, "x"), Pair(-1, 0, None, "x")], NODES)) == []


def test_what_does_not_come_back_whole_is_a_matter_of_mtu() -> None:
    (found,) = compare.blame(connections({(0, 1)}, "64 KiB did not come back"), NODES)
    assert found.fix.startswith("the MTU")


def test_of_two_nodes_the_pair_is_named() -> None:
    (found,) = compare.blame([Pair(0, 1, None, "refused"), Pair(1, 0, 0.1)], NODES)
    assert found.what == "node 0 (gpu0) does not reach node 1 (gpu1) (refused)"


# --- what was measured -----------------------------------------------------------------------


def measured(seconds: Mapping[tuple[int, int], float] = {}, usual: float = 0.01) -> list[Reduced]:
    """Return a process of each of four nodes; `seconds` of the pairs that are not as usual."""
    return [
        Reduced(
            node, node, "done", nccl="2.21.5", gemm=0.1, sizes=((4096, 0.001), (1 << 20, 0.01)),
            pairs=tuple((other, seconds.get((min(node, other), max(node, other)), usual))
                        for other in range(4) if other != node),
        )
        for node in range(4)
    ]  # fmt: skip


def judged(reduced: list[Reduced]) -> list[str]:
    return [one.what for one in speed.judge(reduced, NAMES)]


def test_a_run_that_is_well() -> None:
    assert judged(measured()) == []


def test_the_slow_node_and_the_slow_pair_are_told_apart() -> None:
    (what,) = judged(measured({(0, 2): 0.05, (1, 2): 0.05, (2, 3): 0.05}))
    assert (
        what == "the network of node 2 (gpu2) is slow: 0.34 GB/s, where the others have 1.68 GB/s"
    )
    (what,) = judged(measured({(0, 2): 0.05}))
    assert what.startswith("the way between node 0 (gpu0) and node 2 (gpu2) is slow")


def test_of_two_nodes_none_is_called_slow() -> None:
    two = [replace(one, pairs=one.pairs[:1], gemm=0.1 + one.node) for one in measured()[:2]]
    assert judged(two) == []


def test_a_node_that_computes_slowly() -> None:
    reduced = measured()
    reduced[3] = replace(reduced[3], gemm=0.25)
    assert "node 3 (gpu3) computes slowly" in judged(reduced)[0]
    assert "2.5 times" in judged(reduced)[0]


def test_a_wrong_sum_says_whose_share_is_missing() -> None:
    reduced = measured()
    reduced[1] = replace(reduced[1], wrong=((4096, 7.0, 10.0),))
    assert judged(reduced) == [
        "a sum of 4096 bytes is 7 and not 10 on node 1 (gpu1); as if rank 2 had not been there"
    ]


@pytest.mark.parametrize(
    ("reached", "said"),
    [("start", "node 2 (gpu2) did not import torch: No module"),
     ("torch", "node 2 (gpu2) did not meet the others"),
     ("4096", "node 2 (gpu2) stopped after 4096 bytes")],
)  # fmt: skip
def test_who_got_least_far_is_named(reached: str, said: str) -> None:
    reduced = [replace(one, reached="1048576", error="timed out") for one in measured()]
    reduced[2] = replace(reduced[2], reached=reached, error="No module named 'torch'")
    assert judged(reduced)[0].startswith(said)


def test_another_nccl_that_is_loaded() -> None:
    reduced = measured()
    reduced[2] = replace(reduced[2], nccl="2.18.1")
    assert judged(reduced) == [
        "NCCL as it is loaded: 2.18.1 on node 2 (gpu2); the other 3 have 2.21.5"
    ]


# --- the table ---------------------------------------------------------------------------------


def test_the_status_is_of_the_first_stage_that_failed() -> None:
    def status(*stages: str, fatal: bool = True) -> int:
        return Outcome(4, NODES, tuple(Finding(s, "", "", "", fatal) for s in stages)).status

    assert [status(stage) for stage in STAGES] == [11, 12, 13, 14, 15, 16, 17]
    assert status("pairs", "clocks") == 13
    assert status("clocks", fatal=False) == status() == 0


def test_the_table_fits_a_terminal_and_says_what_mends() -> None:
    found = tuple(compare.compare(with_odd(versions=torch("2.5.1"), mtu=1500)))
    outcome = Outcome(4, NODES, found, ("all_reduce",), ((1, 0.001),), tuple(measured()), 3.0, 1.2)
    text = table.as_text(outcome, 0)
    assert max(map(len, text.splitlines())) <= 80
    assert " 4 versions    FAILED   torch: 2.5.1 on node 2 (gpu2);" in text
    assert " 7 all_reduce  skipped  waits for versions" in text
    assert "   fix    run the same image on all nodes" in text
    other = table.as_text(Outcome(4, NODES[:1], found), 2)
    assert other.endswith("the check ended failed at versions; node 0 has the table")
    assert table.as_data(outcome, 0)["status"] == 14
