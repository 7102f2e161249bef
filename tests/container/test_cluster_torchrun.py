"""Real torchrun, and the check with it, on three machines: one is killed, one is slow.

The machines are network namespaces; PyTorch is the CPU build that the other tests have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.container.engine import poll
from testing.nodes import TORCH, Nodes, cpu_limit, nodes_on_a_switch, programs

TRAIN = Path(__file__).parents[2] / "deploy" / "cluster" / "train.py"
LOSS = re.compile(r"step (\d+): loss \d+\.\d+, (\d+) processes")


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    if not TORCH.exists():
        pytest.skip("no torch: pip finds no CPU build here")
    with nodes_on_a_switch(3, tmp_path_factory.mktemp("nodes")) as found:
        yield found


@pytest.mark.alone  # torchrun's own time-outs, while several nodes import PyTorch
def test_a_slow_node_is_named(nodes: Nodes, tmp_path: Path) -> None:
    variables = programs(tmp_path)
    with cpu_limit(0.15) as joins:
        running = [
            node.start(
                "sh", "-c", f"{join} exec launcher cluster check --json --nnodes=3 "
                f"--node-rank={n} --master-addr=node0 --nproc-per-node=1", env=variables,
            )
            for n, node in enumerate(nodes.every)
            for join in (f"echo $$ > {joins};" if n == 1 else "renice -n -15 $$ > /dev/null;",)
        ]  # fmt: skip
        said = [process.communicate(timeout=200) for process in running]
    assert [process.returncode for process in running] == [17, 17, 17], said
    found = [one["what"] for one in json.loads(said[0][0])["findings"] if one["fatal"]]
    assert any(what.startswith("node 1 (node1) computes slowly: ") for what in found), found
    assert not any("node 0" in what or "node 2" in what for what in found)


@pytest.mark.alone  # torchrun's own time-outs, while several nodes import PyTorch
def test_a_node_that_is_killed_is_survived(nodes: Nodes, tmp_path: Path) -> None:
    """As docs/cluster.md has it; the node that has the master's address has to stay."""
    _survive(nodes, tmp_path)


def _survive(nodes: Nodes, folder: Path) -> None:
    variables = programs(folder)
    conf = "last_call_timeout=8,keep_alive_interval=1,keep_alive_max_attempt=4"
    running = [
        node.start(
            "launcher", "torchrun", "--nproc-per-node=1", "--nnodes=2:4", "--max-restarts=3",
            "--master-addr=node0", f"--rdzv-conf={conf}", str(TRAIN), "30", "0.3",
            env={**variables, "CHECKPOINT": f"{folder}/{node.name}.pt"},
        )
        for node in nodes.every
    ]  # fmt: skip
    try:
        began = poll((folder / "node2.pt").exists, timeout=90, interval=0.2)
        assert began, "it does not begin"
        words = ("launcher", "status", "--json")
        status, _ = nodes.every[0].start(*words, env=variables).communicate(timeout=60)
        nodes.every[2].kill()
        said = [process.communicate(timeout=75) for process in running]
    finally:
        for node in nodes.every:
            node.kill()
    assert [process.returncode for process in running[:2]] == [0, 0], said
    steps = LOSS.findall(said[0][0] + said[1][0])
    assert {int(step) for step, _ in steps} == set(range(30))
    assert (steps[0][1], steps[-1][1]) == ("3", "2")
    own = [one for one in json.loads(status)["jobs"] if one["pid"] == running[0].pid]
    assert [(one["nodes"], one["master"]) for one in own] == [(4, "node0")]
