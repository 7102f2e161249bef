"""deploy/compose.cluster.yaml, as it is: two containers check each other, and train as one."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.container.engine import Docker

DEPLOY = Path(__file__).parents[2] / "deploy"
PROJECT = f"pclc{os.getpid()}"
TRAIN = "/train.py"
LOSS = re.compile(r"step (\d+): loss (\d+\.\d+), (\d+) processes")


def losses(text: str) -> dict[int, float]:
    return {int(step): float(loss) for step, loss, _ in LOSS.findall(text)}


@pytest.fixture
def compose(docker: Docker, image: str) -> Iterator[tuple[str, ...]]:
    words = ("docker-compose", "--project-name", PROJECT, "--file",
             str(DEPLOY / "compose.cluster.yaml"))  # fmt: skip
    yield words
    subprocess.run(
        [*words, "down", "--volumes", "--timeout", "5"],
        env={**docker.environment, "IMAGE": image}, capture_output=True, check=True,
    )  # fmt: skip


@pytest.mark.long
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
