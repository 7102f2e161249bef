"""How long it takes to see this machine.  Nothing is judged here but that every look is alike."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report

RUNS = 5

# Times NVML from inside, part by part, seconds.
INSIDE = """
import json, time
begin = time.perf_counter()
import pynvml
imported = time.perf_counter()
from launcher.detect import nvml
ours = time.perf_counter()
pynvml.nvmlInit()
opened = time.perf_counter()
pynvml.nvmlShutdown()
closed = time.perf_counter()
nvml.read_report()
read = time.perf_counter()
print(json.dumps({"import of pynvml": imported - begin, "import of detect.nvml": ours - imported,
                  "nvmlInit": opened - ours, "nvmlShutdown": closed - opened,
                  "the whole report": read - closed}))
"""


def repeat(work: Callable[[], object]) -> list[float]:
    """Return how long each of RUNS took, milliseconds."""
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1000)
    return times


def test_every_look_sees_the_same_gpus(machine: TestedMachine, report: Report) -> None:
    seen = []
    times = repeat(lambda: seen.append([gpu.uuid for gpu in machine.report().gpus]))
    report.figure("launcher detect", times, "ms")
    assert seen[0]
    assert all(each == seen[0] for each in seen)


@pytest.mark.parametrize("command", ["topo", "plan", "record"])
def test_a_command_says_the_same_again(
    machine: TestedMachine, report: Report, command: str
) -> None:
    codes = []
    times = repeat(lambda: codes.append(machine.launcher(command).returncode))
    report.figure(f"launcher {command}", times, "ms")
    assert set(codes) == {0}


def test_what_a_look_is_made_of(machine: TestedMachine, report: Report) -> None:
    parts: dict[str, list[float]] = {}
    for _ in range(RUNS):
        done = subprocess.run(
            [sys.executable, "-I", "-c", INSIDE],
            env=machine.environ, cwd="/", capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for name, seconds in json.loads(done.stdout).items():
            parts.setdefault(name, []).append(seconds * 1000)
    for name, times in parts.items():
        report.figure(f"NVML: {name}", times, "ms")
    nothing = [sys.executable, "-I", "-c", "pass"]
    report.figure("Python, nothing else", repeat(lambda: subprocess.run(nothing)), "ms")
    if machine.nvidia_smi:
        report.figure("nvidia-smi -q -x", repeat(machine.smi), "ms")
    assert sum(map(sum, parts.values())) > 0
