"""The GPUs of a running box, watched: with the simulated driver, in processes of its own."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.box.files import write
from launcher.model import codec
from launcher.model.watch import GpusAtStart
from launcher.plan.watch import plan_watch
from launcher.render.files import machine_file, render, watch_file
from launcher.watch import gpus
from sim import driver
from testing.machines import Case

# Watches with an interval of 0, so each turn looks, and prints what is said until it is enough.
WATCH = """
import select, sys, time
sys.path.insert(0, sys.argv[1])
from testing.values import replace
from launcher.box.run_dir import read_value
from launcher.model.watch import WatchTarget
from launcher.watch import gpus
box = read_value(WatchTarget, "watch.json", sys.argv[2])
start = replace(box.gpus, interval=0.1, patience=float(sys.argv[5]))
watch = gpus.GpuWatch(box.run_dir, start, sys.argv[4])
lines, ends = int(sys.argv[3]), time.monotonic() + 20
for _ in range(10_000):
    watch.glance()
    if (line := watch.step()):
        print(line, watch.probe.ready, watch.probe.detail, sep="\\t", flush=True)
        lines -= 1
    if not lines or time.monotonic() > ends:
        break
    pipes = [] if watch.pipe is None else [watch.pipe]
    select.select(pipes, [], [], max(0.0, min(watch.next_event, ends) - time.monotonic()))
"""
ROOT = Path(__file__).parents[3]
DETECT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from launcher.detect import nvml
from launcher.model import codec
print(codec.to_json(nvml.read_report()))
"""


class Watched:
    """A run directory whose start found a simulated machine, and that machine now."""

    def __init__(self, folder: Path, environ: dict[str, str], machine: str) -> None:
        self.folder, self.environ, self.machine = folder, environ, machine
        self.description = Path(environ["NVSIM_MACHINE"])
        told = self._python(DETECT, environ=environ)
        from launcher.model.machine import GpuReport, Machine
        from testing import machines

        report = codec.from_json(GpuReport, told)
        case = Case(machines.machine(report), {"LAUNCHER_RUN_DIR": str(folder), **environ})
        plan = case.plan()
        watched = watch_file(plan_watch(plan, case.machine))
        write((*render(plan), machine_file(plan, case.machine), watched))
        assert isinstance(case.machine, Machine)

    def become(self, changes: dict[str, dict[str, str | None]]) -> None:
        driver.vary(self.machine, changes, self.description)

    def says(self, lines: int = 1, said: str = "", patience: float = 15.0) -> list[str]:
        """Return the first lines that are said."""
        arguments = (str(ROOT), str(self.folder), str(lines), said, str(patience))
        return self._python(WATCH, *arguments).splitlines()

    def _python(self, code: str, *arguments: str, environ: dict[str, str] | None = None) -> str:
        """Run Python as watch does: with next to nothing in its environment."""
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, *arguments],
            env={"PATH": os.environ["PATH"], **(environ or {})},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def watched(simulated, tmp_path: Path):
    def start(machine: str = "h100-8x") -> Watched:
        copy = driver.vary(machine, {}, tmp_path / "now.machine")
        return Watched(tmp_path / "run", simulated(copy), machine)

    return start


@pytest.mark.parametrize(
    ("machine", "changes", "what"),
    [
        pytest.param("h100-8x", {"gpu 3": {"state": "lost"}}, "GPU 3: NVML 15", id="lost"),
        pytest.param(
            "h100-8x", {"gpu 3": {"state": "lost-after-handle"}}, "GPU 3: NVML 15", id="lost-later"
        ),
        pytest.param(
            "h100-8x", {"faults": {"nvmlInit": "return 999"}}, "NVML 999: Unknown Error", id="999"
        ),
        pytest.param(
            "h100-8x", {"faults": {"nvmlInit": "return 18"}}, "NVML 18", id="driver-updated"
        ),
        pytest.param(
            "h100-8x", {"faults": {"nvmlInit": "hang"}},
            "does not answer: no answer within 1 s", id="hung",
        ),
        pytest.param(
            "h100-8x", {"faults": {"nvmlInit": "crash"}}, "crashed: killed by SIGSEGV", id="crash"
        ),
        pytest.param(
            "a100-mig", {"gpu 0 mig 1": {"uuid": "MIG-11111111-2222-3333-4444-555555555555"}},
            "MIG of GPU 0 was reconfigured: 1 of 3 instances are gone", id="mig-cut-otherwise",
        ),
    ],
)  # fmt: skip
def test_a_loss_is_one_line_with_its_fix(watched, machine, changes, what) -> None:
    box = watched(machine)
    box.become(changes)
    (line,) = box.says(patience=1.0 if "hang" in str(changes) else 15.0)
    text, ready, detail = line.split("\t")
    assert text.startswith("launcher: GPUs are lost: ")
    assert what in text
    assert "; fix: " in text
    assert ready == "False"
    assert what in detail
    # The same one is not repeated, by a watch that was restarted neither.
    box.become({})
    (line,) = box.says(said=detail)
    assert line.startswith("launcher: the GPUs are back: ")
    assert line.endswith("\tTrue\tas at the start")


def test_a_slow_driver_is_not_a_lost_one(watched) -> None:
    """It may take what the start says: here it is slower than before, and the GPUs are there."""
    box = watched("rtx4090-1x")
    box.become({"faults": {"nvmlInit": "delay 1200 ms"}})
    (line,) = box.says(said="lost before", patience=10.0)
    assert line.startswith("launcher: the GPUs are back: ")
    (line,) = box.says(patience=0.5)
    assert "does not answer: no answer within 0.5 s" in line


def test_nothing_is_said_of_what_is_as_at_the_start(watched) -> None:
    for machine in ("h100-8x", "a100-mig", "h100-8x-one-lost"):
        assert watched(machine).says(said="lost before")[0].startswith("launcher: the GPUs are")


def test_where_no_process_can_be_started_it_waits(tmp_path: Path, monkeypatch) -> None:
    """And keeps no descriptor: it tries again for as long as the box lives."""

    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    watch = gpus.GpuWatch(str(tmp_path), GpusAtStart(30.0, (), 0, "", ()))
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Resource temporarily"):
        watch.step()
    assert os.listdir("/proc/self/fd") == before
    assert watch.next_event > time.monotonic() + 20
    assert watch.probe.ready


def test_root_loads_nothing_that_others_can_change(watched, tmp_path: Path) -> None:
    box = watched()
    folder = tmp_path / "theirs"
    shutil.copytree(box.environ["LD_LIBRARY_PATH"], folder)
    folder.chmod(0o777)
    planned = json.loads((box.folder / "watch.json").read_text())
    planned["gpus"]["environ"] = [["LD_LIBRARY_PATH", str(folder)]]
    (box.folder / "watch.json").write_text(json.dumps(planned))
    with pytest.raises(AssertionError, match="can be changed by others than root"):
        box.says()
