"""What happens to GPUs while the box runs, heard from the driver and seen by the looks."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sim import driver
from testing.local_box import wait_until
from testing.watched import Watched

pytestmark = pytest.mark.long

Start = Callable[..., Watched]
SELDOM = 3600.0  # seconds between two looks: the first is at once, and a reset brings another
FALLEN = (
    "launcher: GPU 3: Xid 79: it fell off the PCI bus (the card's fault): programs on that GPU "
    "fail until its host has been rebooted; fix: on the host: sudo reboot; if it comes back: "
    "power, heat, riser, slot"
)


@pytest.fixture
def watched(simulated, tmp_path: Path) -> Start:
    def start(machine: str = "h100-8x", changes: object = None) -> Watched:
        copy = driver.vary(machine, changes or {}, tmp_path / "now.machine")
        return Watched(tmp_path / "run", simulated(copy), copy)

    return start


# --- what is heard ---------------------------------------------------------------------------


def test_each_xid_is_one_line_with_what_it_means_and_what_to_do(watched: Start) -> None:
    box = watched()
    with box.watch(interval=SELDOM) as watching:
        watching.await_ears(box)
        box.happen("xid = 31, gpu 1")
        (said,) = watching.wait_for()
        assert said.line.startswith("launcher: GPU 1: Xid 31: a program used an address")
        assert "(the program's fault)" in said.line
        assert "CUDA_LAUNCH_BLOCKING=1" in said.line
        assert (said.ready, said.detail) == (True, "as at the start")
        box.happen("xid = 79, gpu 3")
        said = watching.wait_for(2)[1]
    assert said.line == FALLEN
    # Not healthy is the box for the one that needs its host rebooted, and for that alone.
    assert not said.ready
    assert said.detail.startswith("GPU 3: Xid 79: it fell off the PCI bus: programs on that GPU")
    assert set(said.record["resets"]) == {"3"}
    assert said.record["xids"]["3"] == {"79": 1}
    assert said.record["xids"]["1"] == {"31": 1}


def test_a_storm_is_one_line_and_a_number(watched: Start) -> None:
    box = watched("rtx4090-1x")
    with box.watch(interval=0.5) as watching:
        watching.await_ears(box)
        for _ in range(3):
            box.happen(*["xid = 13, gpu 0"] * 100)
            time.sleep(1.2)  # longer than those that come together are one
        box.happen("xid = 31, gpu 0")
        wait_until(lambda: len(watching.said) > 1, lambda: str(watching.said))
        last = watching.said[-1]
    assert [said.line.partition(": a ")[0] for said in watching.said] == [
        "launcher: GPU 0: Xid 13", "launcher: GPU 0: Xid 31",
    ]  # fmt: skip
    assert last.ready
    assert last.record["xids"]["0"]["13"] == 300


def test_an_error_that_ecc_cannot_correct_is_told_once(watched: Start) -> None:
    """By the driver's two kinds of event."""
    box = watched()
    with box.watch(interval=SELDOM) as watching:
        watching.await_ears(box)
        box.happen("ecc = double, gpu 2", "xid = 48, gpu 2")
        said = watching.wait_for()[0]
    assert said.line.startswith("launcher: GPU 2: Xid 48: memory with an error that ECC could not")
    assert "sudo nvidia-smi --gpu-reset -i 00000000:3A:00.0" in said.line
    assert said.record["xids"]["2"] == {"48": 1}


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        ("plain", "then sudo nvidia-smi --gpu-reset"),
        ("runpod", "on RunPod's machine, which only RunPod reaches"),
        ("kubernetes", "on the node: sudo nvidia-smi --gpu-reset"),
    ],
)
def test_what_to_do_is_said_in_the_words_of_the_place(watched: Start, place: str, fix: str) -> None:
    box = watched("rtx4090-1x")
    with box.watch(interval=SELDOM, place=place) as watching:
        watching.await_ears(box)
        box.happen("xid = 119, gpu 0")
        assert fix in watching.wait_for()[0].line


def test_what_the_driver_says_it_needs_counts_for_more(watched: Start) -> None:
    """A contained error ends a program, and the GPU works on; later it needs a reset all the same.

    And once it was reset, it is well again.
    """
    box = watched("h100-8x", {"gpu *": {"recovery_action": "none"}})
    with box.watch(interval=SELDOM) as watching:
        watching.await_ears(box)
        box.happen("xid = 48, gpu 2")
        (said,) = watching.wait_for()
        assert said.ready
        assert "the GPU works on" in said.line
        box.change({"gpu 2": {"recovery_action": "gpu-reset"}})
        box.happen("xid = 154, gpu 2")
        said = watching.wait_for(2)[1]
        assert not said.ready
        assert "fail until it is reset" in said.line
    with box.watch(said.record) as watching:
        box.change({"gpu 2": {"recovery_action": "none"}})
        (said,) = watching.wait_for()
        assert said.line == "launcher: GPU 2 needs no reset any more"
        assert (said.ready, said.detail) == (True, "as at the start")


def test_other_peoples_mig_instances_are_none_of_ours(watched: Start) -> None:
    box = watched("a100-mig")
    with box.watch(interval=SELDOM) as watching:
        watching.await_ears(box)
        box.happen("xid = 31, gpu 0, instance 9/0", "xid = 13, gpu 0, instance 5/0")
        (said,) = watching.wait_for()
        assert "Xid 13" in said.line
        assert "31" not in said.record["xids"]["0"]


# --- who listens -----------------------------------------------------------------------------


def listener(pid: int) -> int:
    """Return the child of a watch that looks seldom; 0 = there is none, or it looks now."""
    with open(f"/proc/{pid}/task/{pid}/children") as stream:
        children = [int(child) for child in stream.read().split() if lives(child)]
    return children[0] if len(children) == 1 else 0


def lives(pid: str) -> bool:
    """Say whether it runs: one that was killed is a child until its status is taken."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_who_listens_goes_with_the_watch(watched: Start) -> None:
    box = watched("rtx4090-1x")
    with box.watch(interval=SELDOM) as watching:
        watching.await_ears(box)
        child = wait_until(lambda: listener(watching.pid), "somebody listens")
        os.kill(watching.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{child}").exists(), "it is gone with the watch")


def test_a_gpu_that_needs_a_reset_is_let_go(watched: Start) -> None:
    """Whoever listens to it would keep the host from resetting it.  The others are heard."""
    box = watched()
    with box.watch(interval=SELDOM) as watching:
        watching.await_ears(box)
        before = wait_until(lambda: listener(watching.pid), "somebody listens")
        box.happen("xid = 95, gpu 3")
        watching.wait_for()

        def another_hears() -> bool:
            if listener(watching.pid) in (0, before):
                return False
            box.happen("xid = 13, gpu 3", "xid = 31, gpu 1")
            time.sleep(0.3)
            return len(watching.said) > 1

        wait_until(another_hears, lambda: str(watching.said), 40.0)
        said = watching.said[-1]
    assert "GPU 1: Xid 31" in said.line
    assert said.record["xids"]["3"] == {"95": 1}


def test_a_licence_that_a_vgpu_loses_is_a_line_and_a_row_until_it_is_back(
    watched: Start,
) -> None:
    box = watched(
        "a100-vgpu", {"gpu 0": {"grid_license": "licensed", "clocks_event_reasons": "0x0"}}
    )
    with box.watch(speed=0.01) as watching:
        box.become({"gpu 0": {"grid_license": "unlicensed"}})
        (said,) = watching.wait_for()
        assert said.line.startswith(
            "launcher: a GPU is not as at the start: GPU 0 (GRID A100D-20C): a vGPU without a"
        )
        assert said.ready
        assert list(said.record["troubles"]["0"]) == ["resources.not_licensed"]
        hot = {"grid_license": "licensed", "clocks_event_reasons": "0x40"}
        box.become({"gpu 0": hot})  # something else that is said
        said = watching.wait_for(2)[1]
    assert list(said.record["troubles"]["0"]) == ["resources.thermal_slowdown"]


def test_a_driver_without_events_is_looked_at_as_before(watched: Start) -> None:
    box = watched("orin")
    with box.watch() as watching:
        time.sleep(1.0)
        assert watching.said == []
        box.become({"faults": {"nvmlInit": "return 999"}})
        assert watching.wait_for()[0].line.startswith("launcher: GPUs are lost: ")


def test_a_gpu_that_may_sleep_is_not_held_open_nor_woken(watched: Start, tmp_path: Path) -> None:
    """One that sleeps is not asked: the driver would answer that it is lost."""
    box = watched("rtx4090-1x")
    power = tmp_path / "devices/0000:01:00.0/power"
    power.mkdir(parents=True)
    (power / "control").write_text("auto\n")
    (power / "runtime_status").write_text("suspended\n")
    box.become({"gpu 0": {"state": "lost"}})
    with box.watch(devices=tmp_path / "devices") as watching:
        time.sleep(1.0)
        assert watching.said == []
        (power / "runtime_status").write_text("active\n")
        assert "GPU 0: NVML 15" in watching.wait_for()[0].line
