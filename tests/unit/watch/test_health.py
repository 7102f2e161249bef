"""Is the box healthy?  Every way to be not, with a clock that is an argument."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from launcher.model.watch import Probe
from launcher.watch import health

NOW = 1000.0
BOOT = "this-boot"
UP = {"ready": True, "detail": "answers"}
GOOD = {
    "started": 900.0,
    "stamp": NOW - health.INTERVAL,
    "boot": BOOT,
    "pid": 1,
    "starting": False,
    "healthy": True,
    "services": {"jupyter": UP, "ssh": UP},
}
DOWN = {"ready": False, "detail": "no answer"}
LOST = {"ready": False, "detail": "GPU 3: NVML 15: GPU is lost; fix: sudo reboot"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, None, id="healthy"),
        pytest.param({"stamp": NOW}, None, id="just-now"),
        pytest.param({"stamp": NOW - 15.0}, None, id="a-busy-machine-is-late"),
        pytest.param({"stamp": NOW - 60.0}, "watch has stopped", id="old"),
        pytest.param({"stamp": NOW + 1.0}, "old", id="of-the-future"),
        pytest.param({"stamp": None}, "old", id="no-stamp"),
        pytest.param({"stamp": "999.0"}, "old", id="a-stamp-that-is-text"),
        pytest.param({"boot": "another"}, "another boot", id="of-another-boot"),
        pytest.param({"boot": None}, "another boot", id="no-boot"),
        pytest.param(
            {"healthy": False, "services": {"jupyter": DOWN, "ssh": UP}},
            "jupyter: no answer",
            id="a-service-does-not-answer",
        ),
        pytest.param(
            {"healthy": False, "services": {"jupyter": DOWN, "gpus": LOST}},
            "jupyter: no answer; gpus: GPU 3: NVML 15: GPU is lost; fix: sudo reboot",
            id="a-gpu-is-lost-too",
        ),
        pytest.param({"healthy": "yes", "services": {"a": DOWN}}, "a: no answer", id="text"),
        pytest.param({"healthy": False, "services": None}, "does not say why", id="no-services"),
        pytest.param({"healthy": False, "services": {"a": 3}}, "does not say why", id="no-detail"),
        pytest.param(
            {"healthy": False, "starting": True, "services": {"jupyter": DOWN, "ssh": UP}},
            "not ready yet: jupyter: no answer",
            id="starting",
        ),
        pytest.param(
            {"healthy": False, "starting": True, "services": {}},
            "not ready yet: the services are starting",
            id="hooks-run",
        ),
    ],
)
def test_the_judgement(changes: dict, reason: str | None) -> None:
    said = health.judge_health({**GOOD, **changes}, NOW, BOOT)
    if reason is None:
        assert said is None
    else:
        assert said is not None
        assert said == reason or (reason in said and ";" not in reason)
        assert "\n" not in said


def test_a_full_disk_is_not_taken_for_a_dead_watch() -> None:
    old = {**GOOD, "stamp": NOW - 60.0}
    said = health.judge_health(old, NOW, BOOT, full="/run/launcher")
    assert said == (
        "/run/launcher is full: nothing new can start; make room there: df -h /run/launcher"
    )
    assert health.judge_health(None, NOW, BOOT, full="/run/launcher") == said
    # Kernels cannot start.
    assert health.judge_health(GOOD, NOW, BOOT, full="/run/launcher") == said


def test_no_report_is_not_healthy() -> None:
    assert health.judge_health(None, NOW, BOOT) == "not ready yet: there is no health report"


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '"text"', "\udcff"], ids=lambda text: ascii(text)
)
def test_a_file_that_is_no_report_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "health.json").write_text(content, errors="surrogateescape")
    assert health.read_health(str(tmp_path)) is None
    assert health.check_health(str(tmp_path))


def test_what_watch_writes_is_healthy(tmp_path: Path) -> None:
    started = time.monotonic()
    health.write_health(f"{tmp_path}/health.json", started, [Probe("jupyter", True, "answers")])
    assert health.check_health(str(tmp_path)) is None
    report = health.read_health(str(tmp_path))
    assert report is not None
    assert report["started"] == started


def test_one_service_that_is_not_ready_is_enough(tmp_path: Path) -> None:
    probes = [Probe("jupyter", True, "answers"), Probe("ssh", False, "does not listen")]
    health.write_health(f"{tmp_path}/health.json", 1.0, probes)
    assert health.check_health(str(tmp_path)) == "ssh: does not listen"


def test_a_box_that_starts_is_not_ready_yet(tmp_path: Path) -> None:
    health.write_health(f"{tmp_path}/health.json", 1.0, [], starting=True)
    assert health.check_health(str(tmp_path)) == "not ready yet: the services are starting"


def test_a_watch_that_is_gone_is_not_healthy(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    health.write_health(str(path), 1.0, [])
    ended = subprocess.Popen(["true"])
    ended.wait()
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": ended.pid}))
    said = health.check_health(str(tmp_path))
    assert said is not None
    assert said.startswith("watch is gone")


def test_a_report_that_cannot_be_written_says_so_and_grows_old(tmp_path: Path) -> None:
    (tmp_path / "health.json").mkdir()  # stands for a full or read-only /run
    with pytest.raises(OSError, match=r"health\.json"):
        health.write_health(f"{tmp_path}/health.json", 1.0, [])
    assert health.check_health(str(tmp_path))


@pytest.mark.parametrize("lacking", [3, 6], ids=["bytes", "files"])
def test_a_full_run_directory_is_not_healthy(tmp_path: Path, monkeypatch, lacking: int) -> None:
    health.write_health(f"{tmp_path}/health.json", 1.0, [])
    room = [4096, 4096, 10, 10, 10, 10, 10, 10, 0, 255]  # statvfs(3)
    assert health.check_health(str(tmp_path)) is None
    for field in (lacking, lacking + 1):
        room[field] = 0
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(room))
    assert f"{tmp_path} is full" in health.check_health(str(tmp_path))


def test_anybody_may_read_the_report(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        health.write_health(f"{tmp_path}/health.json", 1.0, [])
    finally:
        os.umask(before)
    assert (tmp_path / "health.json").stat().st_mode & 0o777 == 0o644


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "health.json.new").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match=r"health\.json\.new"):
        health.write_health(f"{tmp_path}/health.json", 1.0, [])
    assert not (tmp_path / "victim").exists()
