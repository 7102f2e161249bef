"""Every error code of NVML on every call that we make, on every simulated machine.

A field may be missing for it; no GPU may be called lost, no sibling hidden, and nothing may crash.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, islice
from pathlib import Path

import pynvml
import pytest

from launcher.checks import judge
from launcher.gpus.record import describe
from launcher.model import codec
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuReport
from launcher.plan.devices import plan_devices
from launcher.text.text import device_lines
from launcher.text.topology import topology_lines
from launcher.watch.gpu_loss import compare
from sim import description, driver
from testing.machines import machine, settings

pytestmark = pytest.mark.long

DETECT = Path(__file__).parents[3] / "launcher" / "detect"
WATCH = DETECT.parent / "watch" / "nvml.py"

# Without these nobody can open a GPU, or name it.
DECISIVE = {"nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"}
# Without these nobody knows anything of any GPU.
WHOLE = {"nvmlInit", "nvmlDeviceGetCount"}
OF_THE_SYSTEM = {"nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion", "nvmlShutdown"}

CODES = sorted(
    {
        value
        for name, value in vars(pynvml).items()
        if re.fullmatch(r"NVML_ERROR_[A-Z_]+", name) and isinstance(value, int) and value > 0
    }
)


def calls_of(path: Path) -> set[str]:
    """Return the functions of NVML that a module of ours calls, without their versions."""
    names = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and re.fullmatch(r"nvml[A-Z]\w+", node.attr)
    }
    bare = {re.sub(r"_v\d+$", "", name) for name in names}
    return bare - {"nvmlMemory", "nvmlErrorString", "nvmlReturn"}  # a struct, and what cannot fail


CALLS = sorted(set().union(*map(calls_of, (*DETECT.glob("nvml*.py"), WATCH))))
MACHINES = sorted(path.stem for path in driver.MACHINES.glob("*.machine"))

# One child answers all cases of a machine: it reads each description as a machine of its own.
READ = """
import os, sys
from launcher.detect import nvml
from launcher.model import codec
from launcher.watch import roll_call
path = os.environ["NVSIM_MACHINE"]
base = open(path, encoding="utf-8").read()
written = {}  # most faults make the same report as others
for line in sys.stdin:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(base + "\\n[faults]\\n" + line.strip().replace(";", "\\n") + "\\n")
    report = nvml.read_report()
    try:
        unopened = roll_call.call().unopened
    except OSError:
        unopened = -1
    if report not in written:
        written[report] = codec.to_json(report)
    print(unopened, written[report], flush=True)
"""


@dataclass(frozen=True)
class Case:
    """What goes wrong, as (call, code), on the first GPU alone or on all."""

    faults: tuple[tuple[str, int], ...]
    everywhere: bool = False

    @property
    def line(self) -> str:
        return ";".join(f"{self._where(call)} = return {code}" for call, code in self.faults)

    def _where(self, call: str) -> str:
        alone = call not in WHOLE | OF_THE_SYSTEM and not self.everywhere
        return f"{call} gpu 0" if alone else call

    @property
    def calls(self) -> set[str]:
        return {call for call, _ in self.faults}


@dataclass(frozen=True)
class Seen:
    case: Case
    report: GpuReport
    unopened: int  # by the watch's roll call; -1 = NVML did not answer it


def small(name: str) -> str:
    """Return a machine without its own faults, cut down to what has one of everything."""
    text = driver.find(name).read_text()
    kept = [
        description.Section(section.name, list(few_links(section)))
        for section in description.parse(text)
        if section.name != "faults"
    ]
    gpus = [gpu for gpu in description.gpus(text) if gpu.get("state", "ok") == "ok"][:2]
    return description.select(description.write(kept), {gpu.index: None for gpu in gpus})


def few_links(section: description.Section) -> Iterator[tuple[str, str]]:
    """Yield its lines with one NVLink to each of two others: all links are asked alike."""
    ends = 0
    for key, value in section.lines:
        if not key.startswith("nvlink "):
            yield key, value
        elif ends < 2:
            yield f"nvlink {ends}", value
            ends += 1


def read(name: str, cases: Sequence[Case], folder: Path) -> list[Seen]:
    path = folder / f"{name}.machine"
    path.write_text(small(name))
    env = driver.environment(driver.build(driver.CACHE), path)
    done = subprocess.run(
        [sys.executable, "-c", READ],
        input="".join(f"{case.line}\n" for case in cases),
        env={**env, "NVSIM_MACHINE": str(path)},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), f"{name}: crashed\n{done.stderr}"
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return [
        Seen(case, parse(report), int(unopened))
        for case, (unopened, report) in zip(cases, lines, strict=True)
    ]


@cache
def parse(text: str) -> GpuReport:
    return codec.from_json(GpuReport, text)


def singles() -> Iterator[Case]:
    for call in CALLS:
        for code in CODES:
            yield Case(((call, code),))
        yield Case(((call, 999),), everywhere=True)
        yield Case(((call, 3),), everywhere=True)


def pairs(name: str) -> Iterator[Case]:
    """Yield every third of all two calls, each with codes that the machine's name draws.

    Which third is the machine's place in the list: every two calls meet on five machines.
    """
    draw = random.Random(name)
    for one, other in islice(combinations(CALLS, 2), MACHINES.index(name) % 3, None, 3):
        yield Case(((one, draw.choice(CODES)), (other, draw.choice(CODES))))


def test_the_calls_and_the_codes_are_those_of_the_source() -> None:
    assert {"nvmlDeviceGetPciInfo", "nvmlDeviceGetFieldValues", "nvmlDeviceGetGpuFabricInfoV"} < (
        set(CALLS)
    )
    assert set(CALLS) > WHOLE | DECISIVE | OF_THE_SYSTEM
    assert {1, 2, 3, 4, 7, 9, 13, 15, 16, 18, 25, 28, 999} < set(CODES)


@pytest.mark.parametrize("name", MACHINES)
def test_every_code_on_every_call(name: str, tmp_path: Path) -> None:
    none, *seen = read(name, [Case(()), *singles()], tmp_path)
    assert (none.report.failure, none.report.lost, none.unopened) == (None, (), 0)
    for one in seen:
        problems = list(wrong(one, none.report))
        assert not problems, f"{name}: {one.case.line}: {problems}"


@pytest.mark.parametrize("name", MACHINES)
def test_two_calls_at_once(name: str, tmp_path: Path) -> None:
    none, *seen = read(name, [Case(()), *pairs(name)], tmp_path)
    for one in seen:
        problems = list(wrong(one, none.report))
        assert not problems, f"{name}: {one.case.line}: {problems}"


def wrong(seen: Seen, healthy: GpuReport) -> Iterator[str]:
    """Yield what must not have happened."""
    report, calls = seen.report, seen.case.calls
    everything_prints(report)
    if calls & WHOLE:
        if report.failure is None:
            yield "NVML failed, and that is not said"
        return
    if report.failure:
        yield f"NVML as a whole is said to have failed: {report.failure}"
    decided = bool(calls & DECISIVE)
    lost = {gpu.index for gpu in healthy.gpus} if seen.case.everywhere else {0}
    if {one.index for one in report.lost} != (lost if decided else set()):
        yield f"lost: {report.lost}"
    expected = [gpu for gpu in healthy.gpus if not (decided and gpu.index in lost)]
    if [gpu.uuid for gpu in report.gpus] != [gpu.uuid for gpu in expected]:
        yield f"listed: {[gpu.index for gpu in report.gpus]}"
    if not seen.case.everywhere:
        yield from (
            f"GPU {now.index} is another than before"
            for now in report.gpus
            for before in healthy.gpus
            if now.index == before.index != 0 and now != before
        )
    if seen.unopened != (len(lost) if decided else 0):
        yield f"the roll call lacks {seen.unopened}"
    if not decided:
        yield from said_of_healthy_gpus(report, healthy)


# Most faults make the same report as others: what follows from one is looked at once.


@cache
def said_of_healthy_gpus(report: GpuReport, healthy: GpuReport) -> tuple[str, ...]:
    return tuple(_said_of_healthy_gpus(report, healthy))


def _said_of_healthy_gpus(report: GpuReport, healthy: GpuReport) -> Iterator[str]:
    if instances(report) == instances(healthy) and (gone := compare(healthy, report, "anew")):
        yield f"the watch: {gone.what}"
    before = judge(Evidence(machine(healthy), {})).failure
    failure = judge(Evidence(machine(report), {})).failure
    layers = ("hardware.", "driver.", "runtime.")
    known = failure is None or failure == before
    # Where no instance can be opened, that is said.
    if not known and failure.id.startswith(layers) and failure.id != "hardware.mig_empty":
        yield f"the doctor: {failure.id}: {failure.what}"


def instances(report: GpuReport) -> list[tuple[str, ...]]:
    return [gpu.mig_uuids for gpu in report.gpus if gpu.mig_enabled is not None]


@cache
def everything_prints(report: GpuReport) -> None:
    box = machine(report)
    assert plan_devices(report, settings()) is not None
    assert topology_lines(report, ()) is not None
    assert describe(report)
    assert json.loads(codec.to_json(report)) is not None
    for line in device_lines(box):
        assert len(line) <= 80, line
        assert "None" not in line


def test_a_gpu_that_is_gone_is_called_lost_all_the_same(tmp_path: Path) -> None:
    """What decides is its UUID, asked once more at the end."""
    for state in ("lost", "lost-after-handle"):
        path = tmp_path / f"{state}.machine"
        driver.vary("h100-8x", {"gpu 3": {"state": state}}, path)
        env = driver.environment(driver.build(driver.CACHE), path)
        script = "from launcher.detect import nvml; from launcher.model import codec; "
        script += "print(codec.to_json(nvml.read_report()))"
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **env}, capture_output=True,
            text=True, timeout=60, check=True,
        )  # fmt: skip
        report = codec.from_json(GpuReport, done.stdout)
        assert [one.index for one in report.lost] == [3]
