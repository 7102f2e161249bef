"""Real torchrun on several containers: the same losses as one process, a node that is killed, a
node that is slow.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from testing.container.box import Box, Boxes
from testing.container.engine import Docker, poll

DEPLOY = Path(__file__).parents[2] / "deploy"
PROJECT = f"pclc{os.getpid()}"
TRAIN = "/train.py"
LOSS = re.compile(r"step (\d+): loss (\d+\.\d+), (\d+) processes")


def losses(text: str) -> dict[int, float]:
    return {int(step): float(loss) for step, loss, _ in LOSS.findall(text)}


# --- deploy/compose.cluster.yaml, as it is -----------------------------------------------------


@pytest.fixture
def compose(docker: Docker, image: str) -> Iterator[tuple[str, ...]]:
    words = ("docker-compose", "--project-name", PROJECT, "--file",
             str(DEPLOY / "compose.cluster.yaml"))  # fmt: skip
    yield words
    subprocess.run(
        [*words, "down", "--volumes", "--timeout", "5"],
        env={**docker.environment, "IMAGE": image}, capture_output=True, check=True,
    )  # fmt: skip


def test_two_nodes_check_each_other_and_train(
    docker: Docker, image: str, compose: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [*compose, "up", "--no-color", "--abort-on-container-exit"],
        env={**docker.environment, "IMAGE": image}, capture_output=True, text=True, timeout=240,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 reach       ok       2 of 2 nodes" in done.stdout
    assert re.search(r"7 all_reduce  ok +2 processes", done.stdout)
    assert "launcher: torchrun on node 1 of 2: 1 process, master node0:29500" in done.stdout
    together = losses(done.stdout)
    assert len(together) == 20
    assert set(LOSS.findall(done.stdout)[0][2]) == {"2"}
    alone = docker(
        "run", "--rm", "-v", f"{DEPLOY}/cluster/train.py:{TRAIN}:ro", image,
        "launcher", "torchrun", TRAIN,
    )  # fmt: skip
    assert losses(alone.stdout) == pytest.approx(together, abs=2e-5)


# --- three boxes that stay ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(docker: Docker) -> Iterator[str]:
    name = f"pcl-cluster-{os.getpid()}"
    docker("network", "create", name)
    yield name
    docker("network", "rm", name, check=False)


@pytest.fixture(scope="module")
def nodes(network: str, shared_box: Boxes) -> Iterator[list[Box]]:
    options = ("--network", network, "-v", f"{DEPLOY}/cluster/train.py:{TRAIN}:ro")
    found = [
        shared_box("--hostname", f"node{n}", "--network-alias", f"node{n}", *options,
                   command=("sleep", "infinity"))
        for n in range(3)
    ]  # fmt: skip
    yield found
    shared_box.remove_all()  # before the network, which they hold


def test_a_slow_node_is_named(docker: Docker, nodes: list[Box]) -> None:
    docker("update", "--cpus", "0.2", nodes[1].name)
    try:
        with ThreadPoolExecutor(3) as pool:
            zero, *others = pool.map(check, nodes, range(3))
    finally:
        docker("update", "--cpus", "0", nodes[1].name, check=False)
    assert zero.returncode == 17, zero.stdout + zero.stderr
    assert [one.returncode for one in others] == [17, 17]
    found = [one["what"] for one in json.loads(zero.stdout)["findings"] if one["fatal"]]
    assert any(what.startswith("node 1 (node1) computes slowly: ") for what in found), found
    assert not any("node 0" in what or "node 2" in what for what in found)


def check(box: Box, rank: int) -> subprocess.CompletedProcess[str]:
    return box.exec(
        "launcher", "cluster", "check", "--json", "--seconds=100", "--nnodes=3",
        f"--node-rank={rank}", "--master-addr=node0", check=False,
    )  # fmt: skip


def test_a_node_that_is_killed_is_survived(docker: Docker, nodes: list[Box]) -> None:
    """As docs/cluster.md has it; the node with the master's address has to stay."""
    job = [
        "launcher", "torchrun", "--nnodes=2:4", "--max-restarts=3", "--master-addr=node0",
        "--rdzv-conf=last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=4",
        TRAIN, "60", "0.3",
    ]  # fmt: skip
    kept = {"CHECKPOINT": "/tmp/kept.pt"}
    with ThreadPoolExecutor(3) as pool:
        ended = [
            pool.submit(box.exec, *job, user="dev", env=kept, check=False, timeout=200)
            for box in nodes
        ]
        began = poll(lambda: _kept(nodes[2]), timeout=90, interval=0.5)
        assert began, ended[0].result().stderr
        status = json.loads(nodes[0].exec("launcher", "status", "--json").stdout)
        nodes[2].kill("KILL")
        zero, one = (each.result() for each in ended[:2])
    assert (zero.returncode, one.returncode) == (0, 0), zero.stderr + one.stderr
    found = LOSS.findall(zero.stdout + one.stdout)
    assert {int(step) for step, *_ in found} == set(range(60))
    assert [found[0][2], found[-1][2]] == ["3", "2"]
    (job_there,) = status["jobs"]
    assert (job_there["nodes"], job_there["master"]) == (4, "node0")
    assert job_there["network"]["eth0"]["received"] > 0


def _kept(box: Box) -> bool:
    return box.exec("test", "-e", "/tmp/kept.pt", check=False).returncode == 0
