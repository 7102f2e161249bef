"""The sampler on simulated machines: what it says, what it leaves out, and when it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sim import description, driver

SAMPLER = Path(__file__).parents[3] / "launcher" / "guest" / "gpu_sampler.py"


def started(machine: str) -> subprocess.Popen[str]:
    env = driver.environment(driver.build(driver.CACHE), machine)
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(SAMPLER)], env={**env}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def sampled(machine: str) -> dict[str, object]:
    with started(machine) as sampler:
        assert sampler.stdout
        assert sampler.stdin
        line = sampler.stdout.readline()
        sampler.stdin.close()  # whoever asked is gone: it ends
        assert sampler.wait(30) == 0
    return json.loads(line)


@pytest.mark.parametrize("machine", ["h100-8x", "a100-mig", "rtx3090-2x-nvlink"])
def test_every_gpu_with_what_it_tells(machine: str) -> None:
    said = sampled(machine)
    gpus = said["gpus"]
    assert isinstance(gpus, list)
    assert said["fault"] is None
    uuids = [gpu.get("uuid") for gpu in description.gpus(driver.find(machine).read_text())]
    assert [gpu["uuid"] for gpu in gpus] == uuids
    for gpu in gpus:
        assert 0 <= gpu["memory_used"] <= gpu["memory_total"]
        assert gpu["memory_total"] > 1 << 30


def test_a_lost_gpu_hides_no_other() -> None:
    gpus = sampled("h100-8x-one-lost")["gpus"]
    assert isinstance(gpus, list)
    assert [gpu["index"] for gpu in gpus if gpu["fault"]] == [3]
    assert "lost" in gpus[3]["fault"]
    assert len(gpus) == 8


def test_one_that_hangs_says_nothing() -> None:
    with started("hung-init") as sampler:
        with pytest.raises(subprocess.TimeoutExpired):
            sampler.wait(1)
        sampler.kill()
        assert sampler.communicate()[0] == ""
