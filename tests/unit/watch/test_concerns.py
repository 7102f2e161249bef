"""How a box is: the banner, `launcher status`, the health check and the page have one judge."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from launcher.cli.running import seen_here
from launcher.model import run_files
from launcher.model.watch import Probe
from launcher.plan.watch import plan_watch
from launcher.text import banner
from launcher.watch import health, status
from launcher.watch.concerns import Concern, concerns
from launcher.watch.gpu_record import GpuRecord
from testing.machines import CASES, PROBES

BROKEN = {"one-lost", "not-injected", "hung"}  # where there is no GPU, nothing is


class Said(NamedTuple):
    """What is said of one box, each in one line."""

    healthcheck: str
    passes: bool
    status: str
    page: dict[str, Any]


@pytest.fixture
def said(tmp_path: Path) -> Callable[[], Said]:
    """Return a way to ask everybody about the box whose health report is there."""
    (tmp_path / run_files.PLAN).touch()

    def ask() -> Said:
        passes, line = health.say_health(str(tmp_path))
        seen = seen_here(str(tmp_path))
        shown = " ".join(status.as_text(seen).split())
        return Said(line, passes, shown, json.loads(status.as_json(seen)))

    return ask


def write(folder: Path, probes: Sequence[Probe], **counts: object) -> None:
    started = time.monotonic() - 200
    health.write_health(f"{folder}/health.json", started, probes, counts=counts)


@pytest.mark.parametrize("name", CASES)
def test_what_was_broken_at_the_start_is_everybodys(
    name: str, said: Callable[[], Said], tmp_path: Path
) -> None:
    machine, plan = CASES[name].machine, CASES[name].plan()
    write(tmp_path, PROBES, at_start=plan_watch(plan, machine).at_start)
    told = said()
    assert told.passes, "else whoever restarts what is unhealthy does so for ever"
    assert (plan.broken is not None) == (name in BROKEN)
    if not plan.broken:
        assert (told.healthcheck, told.page["state"]) == ("", "healthy")
        assert told.page["summary"] == "healthy, up 3 min"
        assert told.status.startswith("healthy, up 3 min")
        return
    what, fix = plan.broken.what, plan.broken.fix
    line = f"since the start: {what}; fix: {fix}"
    assert told.healthcheck == f"degraded {line}"
    assert told.page["state"] == "degraded"
    assert told.page["summary"] == f"degraded, up 3 min, {line}"
    assert told.status.startswith(" ".join(told.page["summary"].split()))
    shown = banner.render_banner(machine, plan, PROBES, 101.0, {})
    assert " ".join(what.split()) in " ".join(shown.replace("\n", " ").split())


LOST = GpuRecord().with_loss("GPU 3: NVML 15: GPU is lost; fix: sudo reboot")
DOWN = Probe("jupyter", False, "it ended, and is started again: exit status 1; fix: wait")


@pytest.mark.parametrize(
    ("probes", "counts", "state", "line"),
    [
        pytest.param([DOWN], {}, "unhealthy", f"jupyter: {DOWN.detail}", id="a-service"),
        pytest.param(
            [Probe("gpus", False, LOST.lost)], {"gpus": LOST.to_json()}, "unhealthy",
            f"gpus: {LOST.lost}", id="a-gpu-is-lost",
        ),
        pytest.param(
            [DOWN], {"at_start": "GPU 3 is lost; fix: reboot"}, "unhealthy",
            f"jupyter: {DOWN.detail}", id="both: what is new comes first",
        ),
    ],
)  # fmt: skip
def test_what_is_worse_than_at_the_start(
    probes: list[Probe], counts: dict[str, object], state: str, line: str,
    said: Callable[[], Said], tmp_path: Path,
) -> None:  # fmt: skip
    write(tmp_path, probes, **counts)
    told = said()
    assert not told.passes
    assert told.healthcheck == line
    assert (told.page["state"], told.page["summary"]) == (state, f"{state}: {line}")
    assert told.status.startswith(f"{state}: {line}"[:60])


def test_a_watch_that_is_gone(said: Callable[[], Said], tmp_path: Path) -> None:
    write(tmp_path, PROBES, at_start="GPU 3 is lost; fix: reboot")
    ended = subprocess.Popen(["true"])
    ended.wait()
    path = tmp_path / "health.json"
    path.write_text(path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {ended.pid}'))
    told = said()
    assert told.healthcheck.startswith("watch is gone")
    assert told.page["summary"] == f"unhealthy: {told.healthcheck}"


def test_each_kind_of_trouble_is_a_concern_with_its_fix(
    said: Callable[[], Said], tmp_path: Path
) -> None:
    record = LOST.with_xid(2, 31, 4, "").with_troubles(
        {"1": {"hardware.remap_pending": "GPU 1: memory waits: slow; fix: reset it"}}, {"1": [
            "hardware.remap_pending"]},
    )  # fmt: skip
    write(
        tmp_path, [DOWN, Probe("ssh", True, "listens"), Probe("gpus", False, LOST.lost)],
        gpus=record.to_json(), memory_kills=2, more_memory="docker run --memory=…",
    )  # fmt: skip
    found = [Concern(**one) for one in said().page["concerns"]]
    assert found == [
        Concern("jupyter: it ended, and is started again: exit status 1", "wait"),
        Concern("gpus: GPU 3: NVML 15: GPU is lost", "sudo reboot"),
        Concern("GPU 1: memory waits: slow", "reset it"),
        Concern("GPU 2: Xid 31 ×4; what that means: launcher logs watch"),
        Concern(
            "2 processes were killed for want of memory: a kernel or program of yours may be gone",
            "use less at a time, or docker run --memory=…",
        ),
    ]


@pytest.mark.parametrize("wrong", [3, None, {"detail": 3}, {"ready": "yes"}])
def test_a_report_of_another_version_is_no_error(
    wrong: object, said: Callable[[], Said], tmp_path: Path
) -> None:
    write(tmp_path, PROBES)
    path = tmp_path / "health.json"
    report = {**json.loads(path.read_text()), "services": {"a": wrong}, "gpus": wrong}
    path.write_text(json.dumps({**report, "memory_kills": "many", "at_start": None}))
    assert said().page["state"] == "healthy"
    assert list(concerns(seen_here(str(tmp_path))))[1:] == []
