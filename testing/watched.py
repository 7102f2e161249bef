"""The GPUs of a box, watched in a process of its own: with the simulated driver, without a box."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.box.files import write
from launcher.model import codec
from launcher.model.machine import GpuReport
from launcher.model.watch import ListedGpu
from launcher.plan.watch import plan_watch
from launcher.render.files import machine_file, render, watch_file
from sim import driver
from testing import machines
from testing.local_box import wait_until
from testing.machines import Case

LISTED = ListedGpu("GPU-0", None, 0, "00000000:01:00.0")

ROOT = Path(__file__).parents[1]
_DETECT = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from launcher.detect import nvml
from launcher.model import codec
print(codec.to_json(nvml.read_report()))
"""
# Watches as the box does, with other times, and prints what is said.
_WATCH = """
import json, select, sys, time
sys.path.insert(0, sys.argv[1])
from testing.values import replace
from launcher.box.run_dir import read_value
from launcher.model.watch import WatchTarget
from launcher.watch import gpus, roll_call, soundness
from launcher.watch.gpu_record import from_json
told = json.loads(sys.argv[3])
roll_call._DEVICES = told["devices"]
soundness.CONDITIONS = tuple(
    one._replace(lasts=one.lasts * told["speed"]) for one in soundness.CONDITIONS
)
box = read_value(WatchTarget, "watch.json", sys.argv[2])
start = replace(box.gpus, interval=told["interval"], patience=told["patience"])
watch = gpus.GpuWatch(box.run_dir, start, from_json(told["known"]), told["place"])
while True:
    watch.glance()
    lines = watch.step()
    probe = watch.probe
    for line in lines:
        print(json.dumps([line, probe.ready, probe.detail, watch.record.to_json()]), flush=True)
    wait = max(0.0, watch.next_event - time.monotonic())
    select.select([*watch.pipes, sys.stdin], [], [], min(wait, 1.0))
"""


@dataclass(frozen=True)
class Said:
    """A line, and what is known once it was said."""

    line: str
    ready: bool
    detail: str
    record: Mapping[str, Mapping[str, object]]


class Watched:
    """A run directory whose start found a simulated machine, and that machine now."""

    def __init__(self, folder: Path, environ: dict[str, str], machine: str | Path) -> None:
        """Begin; `environ` names a description that may be changed."""
        self.folder, self.environ, self.machine = folder, environ, machine
        self.description = Path(environ["NVSIM_MACHINE"])
        report = codec.from_json(GpuReport, _python(_DETECT, environ).communicate(timeout=60)[0])
        case = Case(machines.machine(report), {"LAUNCHER_RUN_DIR": str(folder), **environ})
        plan = case.plan()
        watched = watch_file(plan_watch(plan, case.machine))
        write((*render(plan), machine_file(plan, case.machine), watched))

    def become(self, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Change the machine of the start."""
        driver.vary(self.machine, changes, self.description)

    def change(self, changes: Mapping[str, Mapping[str, str | None]]) -> None:
        """Change the machine as it is now, with what happened to it."""
        driver.vary(self.description, changes, self.description)

    def happen(self, *events: str) -> None:
        driver.happen(self.description, *events)

    @contextmanager
    def watch(
        self,
        known: object = None,
        *,
        interval: float = 0.1,
        patience: float = 15.0,
        place: str = "docker",
        speed: float = 1.0,
        devices: Path = Path("/nowhere"),
    ) -> Iterator[Watching]:
        """Watch meanwhile.

        Args:
            known: the record of a watch before.
            interval: seconds between two looks.
            patience: seconds for each.
            place: a row of the table of places.
            speed: by which the time that a condition lasts is multiplied.
            devices: what /sys/bus/pci/devices is.
        """
        told = {"known": known, "interval": interval, "patience": patience, "place": place,
                "speed": speed, "devices": str(devices)}  # fmt: skip
        program = _python(_WATCH, {}, str(ROOT), str(self.folder), json.dumps(told))
        try:
            yield Watching(program)
        finally:
            program.kill()
            program.wait()


class Watching:
    """A watch that runs."""

    def __init__(self, program: subprocess.Popen[str]) -> None:
        self.pid = program.pid
        self.said: list[Said] = []
        self._program = program
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._program.stdout
        for line in self._program.stdout:
            self.said.append(Said(*json.loads(line)))

    def wait_for(self, count: int = 1, timeout: float = 40.0) -> list[Said]:
        """Return the lines so far, once there are `count`."""

        def enough() -> bool:
            if self._program.poll() is not None:
                assert self._program.stderr
                raise AssertionError(self._program.stderr.read())
            return len(self.said) >= count

        wait_until(enough, lambda: f"{count} lines: {self.said}", timeout)
        return self.said

    def await_ears(self, box: Watched) -> None:
        """Wait until somebody listens; that is said, and forgotten."""

        def heard() -> bool:
            box.happen("xid = 106, gpu 0")  # a test message
            time.sleep(0.3)
            return bool(self.said)

        wait_until(heard, "somebody listens", 40.0)
        self.said.clear()


def _python(code: str, environ: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Run Python as watch does: with next to nothing in its environment."""
    return subprocess.Popen(
        [sys.executable, "-I", "-c", code, *arguments],
        env={"PATH": os.environ["PATH"], **environ},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
