"""The GPUs of a running box, watched: with the simulated driver, in processes of its own."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

from launcher.model.watch import GpusAtStart
from launcher.watch import gpus
from sim import driver
from testing.watched import Said, Watched


@pytest.fixture
def watched(simulated, tmp_path: Path):
    def start(machine: str = "h100-8x") -> Watched:
        copy = driver.vary(machine, {}, tmp_path / "now.machine")
        return Watched(tmp_path / "run", simulated(copy), machine)

    return start


LOST = {"lost": "lost before", "xids": {}, "resets": {}}


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
        pytest.param(
            "a100-mig", {"faults": {"nvmlDeviceGetMigDeviceHandleByIndex": "return 999"}},
            "MIG instances are there and cannot be opened (GPU 0: NVML 999)", id="mig-closed",
        ),
        pytest.param(
            "a100-mig", {"faults": {"nvmlDeviceGetMigDeviceHandleByIndex": "return 6"}},
            "MIG of GPU 0 was reconfigured: 3 of 3 instances are gone", id="mig-all-gone",
        ),
    ],
)  # fmt: skip
def test_a_loss_is_one_line_with_its_fix(watched, machine, changes, what) -> None:
    box = watched(machine)
    box.become(changes)
    found = says(box, patience=1.0 if "hang" in str(changes) else 15.0)
    assert found.line.startswith("launcher: GPUs are lost: ")
    assert what in found.line
    assert "; fix: " in found.line
    assert not found.ready
    assert what in found.detail
    # The same one is not repeated, by a watch that was restarted neither.
    box.become({})
    back = says(box, found.record)
    assert back.line.startswith("launcher: the GPUs are back: ")
    assert (back.ready, back.detail) == (True, "as at the start")


def says(box: Watched, known: object = None, patience: float = 15.0) -> Said:
    """Return the first thing that is said."""
    with box.watch(known, patience=patience) as watching:
        return watching.wait_for(1)[0]


def test_a_slow_driver_is_not_a_lost_one(watched) -> None:
    """It may take what the start says: here it is slower than before, and the GPUs are there."""
    box = watched("rtx4090-1x")
    box.become({"faults": {"nvmlInit": "delay 1200 ms"}})
    assert says(box, LOST).line.startswith("launcher: the GPUs are back: ")
    assert "does not answer: no answer within 0.5 s" in says(box, patience=0.5).line


def test_nothing_is_said_of_what_is_as_at_the_start(watched) -> None:
    for machine in ("h100-8x", "a100-mig", "h100-8x-one-lost"):
        assert says(watched(machine), LOST).line.startswith("launcher: the GPUs are back")


def test_where_no_process_can_be_started_it_waits(tmp_path: Path, monkeypatch) -> None:
    """And keeps no descriptor: it tries again for as long as the box lives."""

    def refuse() -> int:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    watch = gpus.GpuWatch(str(tmp_path), GpusAtStart(30.0, (), 0, "", ()))
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="Resource temporarily"):
        watch.step()
    # Those of other tests may be closed meanwhile, by the garbage collector.
    assert set(os.listdir("/proc/self/fd")) <= before
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
        says(box)
