"""A start on this machine: first line, banner, a kernel that computes, a minute of the watch."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from launcher.model.machine import GpuReport
from launcher.supervise import programs
from launcher.watch import health
from testing.gpu.idle import Sample, sample
from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report
from testing.gpu.smi import MIB
from testing.local_box import Box, wait_until

LOOK = 5  # seconds between two looks of the watch, the least that the setting accepts

# Run in a kernel.  64 ones by 64 ones, 64 times 64 of them.
CELL = """
import json, os
seen = {"mask": os.environ.get("CUDA_VISIBLE_DEVICES"), "torch": None, "sums": [], "uuids": []}
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    seen["torch"] = torch.__version__
    for index in range(torch.cuda.device_count()):
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        seen["sums"].append(float((ones @ ones).sum()))
        seen["uuids"].append("GPU-" + str(torch.cuda.get_device_properties(index).uuid))
print(json.dumps(seen))
"""
SUM = 64.0**3


@pytest.fixture(scope="module")
def ours(machine: TestedMachine) -> GpuReport:
    return machine.report()


@pytest.fixture(scope="module")
def box(machine: TestedMachine, private: Path, report: Report) -> Iterator[Box]:
    box = Box(private / "box", {**machine.env, "LAUNCHER_GPU_WATCH": str(LOOK)})
    box.start()
    try:
        box.wait_for_banner()
        yield box
    finally:
        box.kill()
        report.texts["the box"] = box.log.replace(box.token, "***")


def test_the_first_line_says_what_is_here(box: Box, ours: GpuReport, report: Report) -> None:
    when, first = next(line for line in box.lines if "still asking" not in line[1])
    report.figure("first line after the start", [when], "s")
    report.figure("banner after the start", [_banner_time(box)], "s")
    assert first.startswith("launcher: ")
    assert ours.gpus[0].name in first
    assert f"driver {ours.driver_version}" in first


def _banner_time(box: Box) -> float:
    return next(when for when, line in box.lines if line.startswith(" Ready"))


def test_the_banner_lists_every_gpu(box: Box, ours: GpuReport) -> None:
    banner = box.wait_for_banner()
    for gpu in ours.gpus:
        assert any(gpu.name[:34] in line and gpu.place in line for line in banner.splitlines())


def test_the_box_comes_up_without_ssh_where_there_is_no_sshd(box: Box) -> None:
    banner = " ".join(box.wait_for_banner().split())
    if os.path.exists("/usr/sbin/sshd"):
        assert "ssh -p" in banner
    else:
        assert "OpenSSH's server is not installed" in banner
    assert box.get("/api/contents", token=box.token) == 200


def test_pytorch_is_verified(machine: TestedMachine, box: Box, ours: GpuReport) -> None:
    said = box.wait_for(r"^launcher: PyTorch .+$", timeout=120)[0]
    if machine.real:
        count = len(ours.gpus)
        assert f"CUDA works on {count} of {count} device" in said


def test_a_kernel_computes_on_the_planned_gpus(
    machine: TestedMachine, box: Box, ours: GpuReport, idle: list[Sample]
) -> None:
    kernel = box.start_kernel()
    seen = json.loads(box.run_in_kernel(kernel, CELL))
    plan = json.loads(box.launcher("plan").stdout)
    planned = {one["name"]: one["value"] for one in plan["environment"]}
    assert seen["mask"] == planned["CUDA_VISIBLE_DEVICES"]
    if machine.real:  # nothing computes on the simulated driver
        assert seen["sums"] == [SUM] * len(seen["uuids"])
        assert seen["uuids"] == [gpu.uuid for gpu in ours.gpus]
        held = sample(machine, 0.5)
        assert all(one.memory_used or 0 for one in held), "nvidia-smi sees no memory of the kernel"
    box.shut_down_kernel(kernel)


# --- the watch -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(
    machine: TestedMachine, box: Box, idle: list[Sample], report: Report
) -> tuple[list[Sample], list[bool], int]:
    """Return the GPUs through a minute of the watch, what it said, and how often it looked."""
    box.wait_for(r"^launcher: PyTorch .+$", timeout=120)
    wait_until(lambda: _as_before(machine, idle), "the GPUs are idle again", timeout=60)
    pid = programs.read_programs(f"{box.directory}/run")["watch"].pid
    faults, well = [_faults_of_children(pid)], list[bool]()

    def look() -> None:
        faults.append(_faults_of_children(pid))
        seen = health.read_health(f"{box.directory}/run")
        well.append(bool(seen and seen["services"]["gpus"]["ready"]))  # type: ignore[index]

    samples = sample(machine, machine.watched, look)
    for name, found in (("idle", idle), ("watched", samples)):
        for quantity, unit in (("power", "W"), ("sm_clock", "MHz"), ("utilization", "%")):
            values = [value for one in found if (value := getattr(one, quantity)) is not None]
            report.figure(f"{quantity} of the GPUs, {name}", values, unit)
    looks = sum(before != after for before, after in pairwise(faults))
    report.figure(f"looks of the watch in {machine.watched:g} s", [looks], "")
    return samples, well, looks


def _as_before(machine: TestedMachine, idle: list[Sample]) -> bool:
    most = max((one.sm_clock or 0 for one in idle), default=0)
    return all((one.sm_clock or 0) <= most for one in sample(machine, 0.5))


def _faults_of_children(pid: int) -> int:
    """Return the page faults of the children that it has waited for: proc(5), cminflt."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])


def test_the_watch_looks_and_loses_nothing(
    machine: TestedMachine, box: Box, watched: tuple[list[Sample], list[bool], int]
) -> None:
    samples, well, looks = watched
    assert looks >= machine.watched / LOOK - 2
    assert all(well)
    assert "GPUs are lost" not in box.log
    assert box.launcher("healthcheck").returncode == 0
    if machine.nvidia_smi:
        assert {one.gpu for one in samples} == set(range(len(machine.report().gpus)))


def test_the_watch_wakes_no_gpu(
    idle: list[Sample], watched: tuple[list[Sample], list[bool], int]
) -> None:
    samples, _, _ = watched
    if not idle:
        pytest.skip("there is no nvidia-smi to see it by")
    if not all(one.persistence for one in idle):
        pytest.skip("without persistence mode nvidia-smi itself wakes the GPU that it asks")
    for gpu in {one.gpu for one in idle}:
        before = [one for one in idle if one.gpu == gpu]
        during = [one for one in samples if one.gpu == gpu]
        assert {one.state for one in during} <= {one.state for one in before}
        assert _median_clock(during) <= _median_clock(before)


def _median_clock(samples: list[Sample]) -> float:
    return statistics.median(one.sm_clock or 0 for one in samples)


def test_it_ends_and_leaves_the_gpus_as_they_were(
    machine: TestedMachine, box: Box, idle: list[Sample], report: Report
) -> None:
    code, seconds = box.stop()
    report.figure("stop", [seconds], "s")
    assert code == 0, box.log
    assert box.processes() == []
    most = {one.gpu: one.memory_used or 0 for one in idle}
    wait_until(
        lambda: all((one.memory_used or 0) <= most[one.gpu] + MIB for one in sample(machine, 0.5)),
        "no memory of ours is held on the GPUs",
    )
