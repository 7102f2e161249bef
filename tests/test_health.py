"""Is the box healthy?  Every way to be not, with a clock that is an argument."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from launcher import health
from launcher.model import Probe

NOW = 1000.0
BOOT = "this-boot"
GOOD = {
    "started": 900.0,
    "stamp": NOW - health.INTERVAL,
    "boot": BOOT,
    "pid": 1,
    "healthy": True,
    "services": {"jupyter": "answers", "ssh": "listens"},
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, None, id="healthy"),
        pytest.param({"stamp": NOW}, None, id="just-now"),
        pytest.param({"stamp": NOW - 15.0}, None, id="a-busy-machine-is-late"),
        pytest.param({"stamp": NOW - 60.0}, "old", id="old"),
        pytest.param({"stamp": NOW + 1.0}, "old", id="of-the-future"),
        pytest.param({"stamp": None}, "old", id="no-stamp"),
        pytest.param({"stamp": "999.0"}, "old", id="a-stamp-that-is-text"),
        pytest.param({"boot": "another"}, "another boot", id="of-another-boot"),
        pytest.param({"boot": None}, "another boot", id="no-boot"),
        pytest.param(
            {"healthy": False, "services": {"jupyter": "no answer", "ssh": "listens"}},
            "jupyter: no answer",
            id="a-service-does-not-answer",
        ),
        pytest.param({"healthy": "yes"}, "jupyter", id="healthy-that-is-text"),
        pytest.param({"healthy": False, "services": None}, "unhealthy", id="no-services"),
    ],
)
def test_the_judgement(changes: dict, reason: str | None) -> None:
    said = health.judge({**GOOD, **changes}, NOW, BOOT)
    if reason is None:
        assert said is None
    else:
        assert reason in said


def test_no_report_is_not_healthy() -> None:
    assert "no health report" in health.judge(None, NOW, BOOT)


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "null", '"text"', "\udcff"], ids=lambda text: ascii(text)
)
def test_a_file_that_is_no_report_is_none(tmp_path: Path, content: str) -> None:
    path = tmp_path / "health.json"
    path.write_text(content, errors="surrogateescape")
    assert health.read(str(path)) is None
    assert health.check(str(tmp_path))


def test_what_watch_writes_is_healthy(tmp_path: Path) -> None:
    started = time.monotonic()
    health.write(f"{tmp_path}/health.json", started, [Probe("jupyter", True, "answers")])
    assert health.check(str(tmp_path)) is None
    assert health.read(f"{tmp_path}/health.json")["started"] == started


def test_one_service_that_is_not_ready_is_enough(tmp_path: Path) -> None:
    probes = [Probe("jupyter", True, "answers"), Probe("ssh", False, "does not listen")]
    health.write(f"{tmp_path}/health.json", 1.0, probes)
    assert "ssh: does not listen" in health.check(str(tmp_path))


def test_a_watch_that_is_gone_is_not_healthy(tmp_path: Path) -> None:
    path = tmp_path / "health.json"
    health.write(str(path), 1.0, [])
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": pid}))
    assert health.check(str(tmp_path)) == "watch is gone"


def test_a_report_that_cannot_be_written_grows_old(tmp_path: Path) -> None:
    # The directory in its place stands for a full or read-only /run: writing must not end watch.
    (tmp_path / "health.json").mkdir()
    health.write(f"{tmp_path}/health.json", 1.0, [])
    assert health.check(str(tmp_path))


@pytest.mark.parametrize("lacking", [3, 6], ids=["bytes", "files"])
def test_a_full_run_directory_is_not_healthy(tmp_path: Path, monkeypatch, lacking: int) -> None:
    health.write(f"{tmp_path}/health.json", 1.0, [])
    room = [4096, 4096, 10, 10, 10, 10, 10, 10, 0, 255]  # statvfs(3)
    assert health.check(str(tmp_path)) is None
    for field in (lacking, lacking + 1):
        room[field] = 0
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(room))
    assert f"{tmp_path} is full" in health.check(str(tmp_path))


def test_anybody_may_read_the_report(tmp_path: Path) -> None:
    health.write(f"{tmp_path}/health.json", 1.0, [])
    assert (tmp_path / "health.json").stat().st_mode & 0o777 == 0o644
