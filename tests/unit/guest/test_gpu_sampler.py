"""The sampler on simulated machines: what it says, what it leaves out, and when it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sim import description, driver
from testing.busy import busy

SAMPLER = Path(__file__).parents[3] / "launcher" / "guest" / "gpu_sampler.py"


def started(machine: str | Path) -> subprocess.Popen[str]:
    env = driver.environment(driver.build(driver.CACHE), machine)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(SAMPLER)], env={**env}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def sampled(machine: str | Path, lines: int = 1) -> dict[str, Any]:
    """Return the last of so many samples."""
    with started(machine) as sampler:
        assert sampler.stdout
        assert sampler.stdin
        for _ in range(lines):
            line = sampler.stdout.readline()
        sampler.stdin.close()  # whoever asked is gone: it ends
        assert sampler.wait(30) == 0
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("machine", ["h100-8x", "a100-mig", "rtx3090-2x-nvlink"])
def test_every_gpu_with_what_it_tells(machine: str) -> None:
    said = sampled(machine)
    gpus = said["gpus"]
    assert said["fault"] is None
    uuids = [gpu.get("uuid") for gpu in description.gpus(driver.find(machine).read_text())]
    assert [gpu["uuid"] for gpu in gpus] == uuids
    for gpu in gpus:
        assert 0 <= gpu["memory_used"] <= gpu["memory_total"]
        assert gpu["memory_total"] > 1 << 30


def test_what_flows_is_told_a_second(tmp_path: Path) -> None:
    machine = busy(tmp_path / "busy.machine", process="pid 4242, memory 3 GiB")
    gpus = sampled(machine, lines=2)["gpus"]
    for gpu in gpus:
        assert gpu["pcie_sent"] == pytest.approx(900 << 20, rel=0.02)
        assert gpu["pcie_received"] == pytest.approx(100 << 20, rel=0.02)
        assert gpu["nvlink_sent"] == pytest.approx(2 << 30, rel=0.02)
        assert gpu["pcie_replays"] == 3
        assert gpu["energy"] > 0
        assert 20 <= gpu["utilization"] <= 95
    # No process of this machine's, so it has no name here.
    assert gpus[0]["processes"] == [{"pid": None, "name": None, "memory": 3 << 30}]


def test_the_first_sample_knows_no_rate() -> None:
    (gpu,) = sampled("rtx4090-1x")["gpus"]
    assert gpu["pcie_sent"] is None


def test_instances_have_their_own_memory() -> None:
    (gpu,) = sampled("a100-mig")["gpus"]
    assert gpu["utilization"] is None  # NVML tells none where MIG is on
    (described,) = description.gpus(driver.find("a100-mig").read_text())
    assert [(one["uuid"], str(one["gpu_instance"])) for one in gpu["instances"]] == [
        (mig.get("uuid"), mig.get("gpu_instance")) for mig in described.migs
    ]
    assert [one["memory_used"] >> 20 for one in gpu["instances"]] == [14366, 9826, 13]


def test_what_is_lost_while_it_looks_is_said(tmp_path: Path) -> None:
    machine = driver.vary("h100-8x", {"gpu 2": {"state": "lost-after-handle"}}, tmp_path / "lost")
    gpus = sampled(machine, lines=2)["gpus"]
    assert [gpu["index"] for gpu in gpus if gpu["fault"]] == [2]
    assert "lost" in gpus[2]["fault"]


def test_a_lost_gpu_hides_no_other() -> None:
    gpus = sampled("h100-8x-one-lost")["gpus"]
    assert [gpu["index"] for gpu in gpus if gpu["fault"]] == [3]
    assert "lost" in gpus[3]["fault"]
    assert len(gpus) == 8


def test_one_that_hangs_says_nothing() -> None:
    with started("hung-init") as sampler:
        with pytest.raises(subprocess.TimeoutExpired):
            sampler.wait(1)
        sampler.kill()
        assert sampler.communicate()[0] == ""
