"""What `launcher` says of GPUs when it is asked, through `docker exec`."""

from __future__ import annotations

import json

import pytest

from testing.container import kernel
from testing.container.box import Box, Boxes
from testing.container.gpus import ALL, uuids


@pytest.fixture(scope="module")
def healthy(shared_box: Boxes) -> Box:
    started = shared_box(*ALL)
    started.wait_for_banner()
    return started


def test_detect_prints_the_machine(healthy: Box) -> None:
    found = json.loads(healthy.exec("launcher", "detect").stdout)
    assert [gpu["uuid"] for gpu in found["report"]["gpus"]] == uuids()
    assert found["report"]["driver_version"] == "565.57.01"
    assert len(found["hardware"]["pci"]) == 8


def test_plan_prints_every_variable_with_its_reason(healthy: Box) -> None:
    text = healthy.exec("launcher", "plan").stdout
    plan = json.loads(text)
    planned = {var["name"]: var for var in plan["environment"]}
    assert planned["CUDA_VISIBLE_DEVICES"]["value"] == "0,1,2,3,4,5,6,7"
    assert planned["CUDA_VISIBLE_DEVICES"]["why"] == "every usable GPU"
    assert planned["CUDA_DEVICE_ORDER"]["value"] == "PCI_BUS_ID"
    token = kernel.connect(healthy).token
    assert token not in text, "a plan is there to be pasted into an issue"
