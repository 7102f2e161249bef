"""What `launcher` says of GPUs when it is asked, through `docker exec`."""

from __future__ import annotations

import json

import pytest

from tests.container import kernel
from tests.container.banner import unwrapped
from tests.container.box import Box, Boxes
from tests.container.gpus import ALL, uuids
from tests.sim import description, driver


@pytest.fixture(scope="module")
def healthy(shared_box: Boxes) -> Box:
    started = shared_box(*ALL)
    started.wait_for_banner()
    return started


def test_detect_prints_the_machine(healthy: Box) -> None:
    found = json.loads(healthy.exec("launcher", "detect").stdout)
    assert [gpu["uuid"] for gpu in found["report"]["gpus"]] == uuids()
    assert found["report"]["driver_version"] == "565.57.01"
    assert len(found["hardware"]["pci_ids"]) == 8


def test_plan_prints_every_variable_with_its_reason(healthy: Box) -> None:
    text = healthy.exec("launcher", "plan").stdout
    plan = json.loads(text)
    planned = {var["name"]: var for var in plan["environment"]}
    assert planned["CUDA_VISIBLE_DEVICES"]["value"] == "0,1,2,3,4,5,6,7"
    assert planned["CUDA_VISIBLE_DEVICES"]["why"] == "every usable GPU"
    assert planned["CUDA_DEVICE_ORDER"]["value"] == "PCI_BUS_ID"
    token = kernel.connect(healthy).token
    assert token not in text, "a plan is there to be pasted into an issue"


def test_doctor_has_no_complaint(healthy: Box) -> None:
    done = healthy.exec("launcher", "doctor")
    assert "driver 565.57.01, CUDA up to 12.7" in done.stdout


def test_doctor_sees_a_gpu_fall_off_the_bus(box: Boxes) -> None:
    """It asks anew: what was true at the start may not be now."""
    started = box(*ALL)
    started.wait_for_banner()
    lost = description.edit(
        driver.find("h100-8x").read_text(), {"faults": {"nvmlInit": "return 9"}}
    )
    library = started.exec("sh", "-c", "ls /usr/lib/*/nvsim.machine").stdout.strip()
    started.exec("sh", "-c", f"cat > {library}", stdin=lost)
    done = started.exec("launcher", "doctor", check=False)
    assert done.returncode == 10
    assert "the host's NVIDIA kernel module is not loaded" in done.stdout
    assert "fix: on the host: sudo modprobe nvidia" in done.stdout


@pytest.mark.parametrize(
    ("options", "says", "fix"),
    [
        ((), "no NVIDIA GPU and no NVIDIA driver on this machine", "none needed on a CPU machine"),
        (
            (*ALL, "-e", "NVSIM_CONTAINER_MACHINE=mismatch"),
            "driver library and kernel module differ",
            "on the host: reboot, or sudo rmmod",
        ),
    ],
    ids=["without", "mismatch"],
)
def test_doctor_says_what_mends_it(
    box: Boxes, options: tuple[str, ...], says: str, fix: str
) -> None:
    started = box(*options)
    started.wait_for_log("launcher: no usable GPU")
    done = started.exec("launcher", "doctor", check=False)
    assert done.returncode >= 10
    assert f"! {says}" in unwrapped(done.stdout)
    assert f"fix: {fix}" in unwrapped(done.stdout)
