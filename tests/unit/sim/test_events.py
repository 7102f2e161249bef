"""NVML's events of a simulated machine, as pynvml waits for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sim import driver

# Registers for all that the GPUs support, says so, and prints each event that it hears.
WAIT = """
import json, sys
from pynvml import *
nvmlInit()
gpus = [nvmlDeviceGetHandleByIndex(index) for index in range(nvmlDeviceGetCount())]
events = nvmlEventSetCreate()
for gpu in gpus:
    nvmlDeviceRegisterEvents(gpu, nvmlDeviceGetSupportedEventTypes(gpu), events)
print("waits", flush=True)
while True:
    heard = nvmlEventSetWait_v2(events, 60_000)
    (action,) = nvmlDeviceGetFieldValues(heard.device, [NVML_FI_DEV_GET_GPU_RECOVERY_ACTION])
    print(json.dumps([
        nvmlDeviceGetIndex(heard.device), heard.eventType, heard.eventData,
        heard.gpuInstanceId, heard.computeInstanceId,
        None if action.nvmlReturn else action.value.uiVal,
    ]), flush=True)
"""
NOBODY = 0xFFFFFFFF  # instead of the number of an instance
XID, DOUBLE = 0x8, 0x2


@contextmanager
def waiting(machine: Path) -> Iterator[subprocess.Popen[str]]:
    program = subprocess.Popen(
        [sys.executable, "-c", WAIT],
        env=driver.environment(driver.build(driver.CACHE), machine),
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        assert program.stdout
        assert program.stdout.readline() == "waits\n"
        try:
            yield program
        finally:
            program.kill()


def hear(program: subprocess.Popen[str]) -> list[int | None]:
    assert program.stdout
    heard: list[int | None] = json.loads(program.stdout.readline())
    return heard


def test_what_is_appended_is_heard_once_and_in_order(tmp_path: Path) -> None:
    machine = driver.vary("h100-8x", {}, tmp_path / "now.machine")
    driver.happen(machine, "xid = 62, gpu 7")  # nobody waited
    with waiting(machine) as program:
        driver.happen(machine, "xid = 79, gpu 3", "ecc = double, gpu 2")
        driver.happen(machine, "xid = 13, gpu 0, instance 3/0")
        assert hear(program) == [3, XID, 79, NOBODY, NOBODY, None]
        assert hear(program) == [2, DOUBLE, 0, NOBODY, NOBODY, None]
        assert hear(program) == [0, XID, 13, 3, 0, None]


def test_the_gpu_is_as_the_event_left_it(tmp_path: Path) -> None:
    """Another description, in place of that which the session began with."""
    now = {"gpu *": {"recovery_action": "none"}}
    machine = driver.vary("h100-8x", now, tmp_path / "now.machine")
    with waiting(machine) as program:
        driver.happen(machine, "xid = 13, gpu 1")
        assert hear(program) == [1, XID, 13, NOBODY, NOBODY, 0]
        driver.vary(machine, {"gpu 1": {"recovery_action": "gpu-reset"}}, machine)
        driver.happen(machine, "xid = 154, gpu 1")
        assert hear(program) == [1, XID, 154, NOBODY, NOBODY, 1]


def test_nobody_hears_what_he_has_not_registered_for(tmp_path: Path) -> None:
    machine = driver.vary("rtx4090-1x", {}, tmp_path / "now.machine")  # without ECC
    with waiting(machine) as program:
        driver.happen(machine, "ecc = double, gpu 0", "xid = 31, gpu 0")
        assert hear(program)[1:3] == [XID, 31]


ASK = """
import json
from pynvml import *
def code_of(call, *arguments):
    try:
        call(*arguments)
        return 0
    except NVMLError as error:
        return error.value
nvmlInit()
gpu, events = nvmlDeviceGetHandleByIndex(0), nvmlEventSetCreate()
print(json.dumps([
    code_of(nvmlDeviceGetSupportedEventTypes, gpu),
    code_of(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeXidCriticalError, events),
    code_of(nvmlDeviceRegisterEvents, gpu, nvmlEventTypeDoubleBitEccError, events),
    code_of(nvmlEventSetWait_v2, events, 1),
]))
nvmlEventSetFree(events)
"""


@pytest.mark.parametrize(
    ("machine", "codes"),
    [("rtx4090-1x", [0, 0, 3, 10]), ("orin", [3, 3, 3, 10])],
    ids=["no-ecc", "no-events"],
)
def test_what_cannot_be_waited_for_is_not_supported(machine: str, codes: list[int]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        env=driver.environment(driver.build(driver.CACHE), machine),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == codes


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("xid = 79", "of which GPU"),
        ("xid = gpu 0", "no number"),
        ("ecc = gpu 0", "no kind"),
        ("xid = 79, gpu 1", "cannot read 'gpu 1'"),
        ("xid = 79, gpu 0, instance 3", "cannot read 'instance 3'"),
        ("sxid = 79, gpu 0", "expected xid or ecc"),
    ],
)
def test_nonsense_is_refused(tmp_path: Path, lines: str, why: str) -> None:
    path = tmp_path / "wrong.machine"
    path.write_text(f"[gpu 0]\n[events]\n{lines}\n")
    with pytest.raises(driver.DescriptionError, match=why):
        driver.check(driver.build(driver.CACHE), path)
