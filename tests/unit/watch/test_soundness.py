"""What gets worse of GPUs that answer: seen by looks on a fake clock, and said in a whole watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from launcher import checks
from launcher.model.watch import GpuState, ListedGpu
from launcher.watch import soundness
from launcher.watch.gpu_record import GpuRecord, from_json
from sim import driver
from testing.values import replace
from testing.watched import LISTED, Watched

WELL = GpuState(0, False, False, 0, 0x1, True)
HOT = replace(WELL, slowdown=0x40)


def said(
    states: Iterable[tuple[float, GpuState]], start: GpuState = WELL
) -> list[tuple[float, str]]:
    """Return what is said of a GPU, and when, at these looks."""
    gpu = replace(LISTED, state=start)
    memory: soundness.Memory = {}
    found = []
    for now, state in states:
        due, memory = soundness.look([gpu], {gpu.uuid: state}, memory, now)
        memory = soundness.remember(memory)
        found += [(now, id) for _, id in due]
    return found


def test_every_condition_is_a_check_s() -> None:
    ids = [condition.id for condition in soundness.CONDITIONS]
    assert len(ids) == len(set(ids))
    assert set(ids) < {check.id for check in checks.CHECKS}


@pytest.mark.parametrize(
    ("changes", "id"),
    [
        ({"remap_pending": True}, "hardware.remap_pending"),
        ({"remap_failed": True}, "hardware.remap_failed"),
        ({"link_recoveries": 1}, "hardware.nvlink_errors"),
        ({"persistence": False}, "driver.persistence_off"),
        ({"recovery": 4}, "hardware.recovery_drain"),
    ],
)
def test_what_was_not_so_at_the_start_is_said_once(changes: dict, id: str) -> None:
    worse = replace(WELL, **changes)
    looks = [(30.0, WELL), (60.0, worse), (90.0, worse), (1e5, worse), (2e5, WELL), (3e5, worse)]
    assert said(looks) == [(60.0, id)]
    assert said(looks, start=worse) == []
    assert said([(30.0, GpuState()), (60.0, GpuState())], start=worse) == []


def test_a_licence_that_is_lost_is_said_and_one_that_comes_late_may_be_lost_too() -> None:
    """A vGPU has none before its VM has asked the server: that is the start's to say."""
    with_, without = replace(WELL, licensed=True), replace(WELL, licensed=False)
    lost = [(60.0, "resources.not_licensed")]
    assert said([(30.0, with_), (60.0, without)], start=with_) == lost
    assert said([(30.0, without), (60.0, WELL), (90.0, without)], start=without) == []
    late = [(30.0, without), (60.0, with_), (90.0, without), (120.0, without)]
    assert said(late, start=without) == [(90.0, "resources.not_licensed")]
    flapping = [(30.0 * look, with_ if look % 2 else without) for look in range(1, 241)]
    assert len(said(flapping, start=with_)) == 2  # in two hours


def test_what_was_said_is_so_until_a_look_sees_otherwise() -> None:
    gpu, worse = replace(LISTED, state=WELL), replace(WELL, licensed=False, remap_pending=True)
    _, memory = soundness.look([gpu], {gpu.uuid: worse}, {}, 30.0)
    ids = ["hardware.remap_pending", "resources.not_licensed"]
    assert soundness.holding({gpu.uuid: worse}, memory) == {gpu.uuid: ids}
    assert soundness.holding({}, memory) == {gpu.uuid: ids}  # it sleeps
    well = replace(WELL, licensed=True)
    assert soundness.holding({gpu.uuid: well}, memory) == {gpu.uuid: []}


def test_links_that_fail_again_are_said_again_at_most_once_an_hour() -> None:
    looks = [(60.0 * minute, replace(WELL, link_recoveries=minute)) for minute in range(180)]
    assert [when for when, _ in said(looks)] == [60.0, 3660.0, 7260.0]
    many = replace(WELL, link_recoveries=7)
    assert said([(30.0, many), (1e5, many)], start=many) == []


def test_what_slows_a_gpu_down_for_a_moment_is_not_said() -> None:
    assert said([(30.0, HOT), (60.0, WELL), (90.0, HOT), (120.0, WELL)]) == []
    assert said([(30.0, HOT)]) == []


@pytest.mark.parametrize(
    ("bits", "id"),
    [(0x20, "thermal_slowdown"), (0x40, "thermal_slowdown"), (0x80, "power_brake")],
)
def test_what_slows_it_down_for_a_minute_is(bits: int, id: str) -> None:
    slow = replace(WELL, slowdown=bits)
    looks = [(30.0 * look, slow) for look in range(1, 260)]
    assert said(looks) == [(90.0, f"resources.{id}"), (3690.0, f"resources.{id}"),
                           (7290.0, f"resources.{id}")]  # fmt: skip
    assert said([(30.0 * look, replace(WELL, slowdown=0x4)) for look in range(1, 99)]) == []


def test_a_gpu_that_was_not_asked_keeps_what_is_known_of_it() -> None:
    gpu = replace(LISTED, state=WELL)
    _, memory = soundness.look([gpu], {gpu.uuid: HOT}, {}, 30.0)
    assert soundness.look([gpu], {}, memory, 60.0) == ([], memory)


@pytest.mark.parametrize(
    ("recovery", "known", "needing", "well"),
    [(1, [], [0], []), (1, [0], [], []), (0, [0], [], [0]), (0, [], [], []), (None, [0], [], []),
     (4, [0], [], [0]), (2, [3], [0], [])],
)  # fmt: skip
def test_what_the_driver_says_of_resets(
    recovery: int | None, known: list[int], needing: list[int], well: list[int]
) -> None:
    states = {LISTED.uuid: GpuState(recovery)}
    found = soundness.resets([LISTED], states, known)
    assert ([gpu.index for gpu in found[0]], found[1]) == (needing, well)


# --- what is kept ------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written() -> None:
    record = GpuRecord().with_xid(3, 79, 1, "why").with_xid(3, 13, 240, "").with_loss("GPU 3")
    assert from_json(record.to_json()) == record
    assert record.xids == {3: {79: 1, 13: 240}}
    worse = record.with_troubles({"3": {"a": "it is hot", "b": "no licence"}}, {"3": ["a", "b"]})
    assert from_json(worse.to_json()) == worse
    assert worse.with_troubles({}, {"3": ["b"]}).troubles == {3: {"b": "no licence"}}
    assert worse.with_troubles({}, {"3": []}) == record
    assert sorted(record.kinds) == [(3, 13), (3, 79)]
    assert record.with_resets({"3": ""}).resets == {}
    assert record.with_loss("").resets == {}  # what came back was reset


@pytest.mark.parametrize("told", [None, 3, {}, {"lost": "", "xids": 3, "resets": {}}, []])
def test_a_record_of_another_version_is_none(told: object) -> None:
    assert from_json(told) == GpuRecord()


# --- in a whole watch --------------------------------------------------------------------------

Start = Callable[..., Watched]


@pytest.fixture
def watched(simulated, tmp_path: Path) -> Start:
    def start(changes: Mapping[str, Mapping[str, str]]) -> Watched:
        copy = driver.vary("h100-8x", changes, tmp_path / "now.machine")
        return Watched(tmp_path / "run", simulated(copy), copy)

    return start


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"remapped_rows_pending": "yes"},
            "GPU 2: bad memory waits for a reset: the GPU works, and replaces that memory at the "
            "next reset; fix: on the node: with nothing running on it: sudo nvidia-smi "
            "--gpu-reset -i 00000000:3A:00.0",
        ),
        ({"remapped_rows_failure": "yes"}, "GPU 2: row remapping failed: its memory is bad"),
        ({"link_recovery_errors": "2"}, "GPU 2: its NVLinks had to recover 2 times since"),
        ({"persistence_mode": "disabled"}, "GPU 2 of 8: persistence mode is off"),
        ({"recovery_action": "drain-and-reset"}, "GPU 2: the driver says that it needs a reset, "),
        ({"clocks_event_reasons": "0x40"}, "GPU 2: too hot"),
        ({"clocks_event_reasons": "0x80"}, "GPU 2: power brake by the power supply"),
    ],
)
def test_what_gets_worse_is_a_line_with_its_fix(
    watched: Start, changes: dict[str, str], words: str
) -> None:
    """In the words of the place, and no reason not to be healthy."""
    box = watched({"gpu *": {"link_recovery_errors": "0", "clocks_event_reasons": "0x0"}})
    box.become({"gpu 2": changes})
    with box.watch(speed=0.005) as watching:
        (one,) = watching.wait_for()
    assert one.line.startswith("launcher: a GPU is not as at the start: ")
    assert words.replace("on the node", "on the host") in one.line
    assert "; fix: " in one.line
    assert one.ready


def test_what_the_driver_says_needs_a_reset_is_not_healthy(watched: Start) -> None:
    """Whether or not an Xid was heard; and well once it says so."""
    box = watched({"gpu *": {"recovery_action": "none"}})
    box.become({"gpu 2": {"recovery_action": "node-reboot"}})
    with box.watch() as watching:
        one = watching.wait_for()[0]
        assert "GPU 2: the driver says that it needs a reboot of its host" in one.line
        assert not one.ready
        assert "sudo reboot" in one.detail
        box.change({"gpu 2": {"recovery_action": "none"}})
        assert watching.wait_for(2)[1].line == "launcher: GPU 2 needs no reset any more"
        assert watching.said[1].ready


def test_the_gpus_of_a_watch_have_their_state() -> None:
    assert ListedGpu("u", None).state == GpuState()
