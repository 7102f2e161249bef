"""What `launcher status` shows: 80 columns, to be read without colour, and nothing to obey."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from launcher.supervise.programs import Program
from launcher.watch import status
from testing.values import replace

NOW = 20_000.0
UP = {"ready": True, "detail": "answers"}
LISTENS = {"ready": True, "detail": "listens"}
AS_AT_START = {"ready": True, "detail": "as at the start"}
PROGRAMS = {
    "jupyter": Program("box", "running", 41, NOW - 11_520, 1, None, True),
    "sshd": Program("box", "running", 42, NOW - 61, 3, "killed by SIGKILL", True),
    "watch": Program("box", "running", 43, NOW - 11_520, 1, None, False),
    "tensorboard": Program("tensorboard", "running", 77, NOW - 300_000, 1, None, False),
}


def seen(
    reason: str | None = None,
    services: dict[str, object] | None = None,
    programs: dict[str, Program] | None = None,
) -> status.Seen:
    found = {"jupyter": UP, "ssh": LISTENS, "gpus": AS_AT_START, **(services or {})}
    report = {"started": NOW - 11_540.0, "services": found}
    return status.Seen(reason, report, {**PROGRAMS, **(programs or {})}, NOW)


LOST = (
    "GPU 3: NVML 15: GPU is lost; fix: on the host: sudo dmesg | grep -i -e nvrm -e xid; then sudo "
    "reboot; if it comes back: power, heat, riser, slot"
)
BROKEN = seen(
    f"jupyter: it ended, and is started again: exit status 1; gpus: {LOST}",
    {
        "jupyter": {"ready": False, "detail": "it ended, and is started again: exit status 1"},
        "gpus": {"ready": False, "detail": LOST},
    },
    {
        "jupyter": Program("box", "waiting", 0, NOW - 4, 7, "exit status 1", True),
        "tensorboard": Program("tensorboard", "failed", 0, NOW - 90, 4, "exit status 2", False),
        "a-program-with-a-long-name": Program("more", "starting", 99, NOW, 1, None, False),
    },
)


@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("healthy", seen()),
        ("unhealthy", BROKEN),
        ("starting", status.Seen("not ready yet: the services are starting", {}, {}, NOW)),
    ],
)
def test_golden(name: str, box: status.Seen, golden: Callable[[str, str], None]) -> None:
    shown = status.as_text(box)
    assert all(len(line) <= 80 for line in shown.splitlines())
    golden(f"status-{name}.txt", f"{shown}\n")


@pytest.mark.parametrize("box", [seen(), BROKEN])
def test_colour_changes_no_word(box: status.Seen) -> None:
    painted = status.as_text(box, color=True)
    assert "\x1b[1;3" in painted
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == status.as_text(box)


def test_what_got_worse_of_a_gpu_is_a_row_until_it_is_well() -> None:
    words = "GPU 0 (GRID A100D-20C): a vGPU without a licence: CUDA slows down; fix: ask"
    box = seen()
    gpus = {"gpus": {"troubles": {"0": {"resources.not_licensed": words}}}}
    worse = replace(box, report={**box.report, **gpus})
    assert words in " ".join(status.as_text(worse).split())
    assert status.document(worse)["troubles"] == gpus["gpus"]["troubles"]
    assert "trouble" not in status.as_text(box)


def test_without_programs_the_services_have_their_rows() -> None:
    """supervise could write nothing: /run is full."""
    shown = status.as_text(status.Seen(None, {"services": {"ssh": LISTENS}}, {}, NOW))
    assert re.search(r"^ ssh +well +listens$", shown, re.MULTILINE)


def test_what_failed_has_its_fix() -> None:
    shown = status.as_text(BROKEN)
    assert "fix: launcher restart tensorboard" in shown
    assert "fix: launcher restart jupyter" in shown
    assert "launcher restart watch" not in shown
    assert "fix: launcher restart" not in status.as_text(seen())


@pytest.mark.parametrize(
    ("count", "said"), [(1, "1 process was killed"), (4, "4 processes were killed")]
)
def test_what_the_kernel_killed_is_counted(count: int, said: str) -> None:
    box = replace_report(seen(), memory_kills=count)
    assert said in status.as_text(box)
    assert json.loads(status.as_json(box))["memory_kills"] == count
    assert "killed" not in status.as_text(replace_report(seen(), memory_kills=0)).replace(
        "before: killed by SIGKILL", ""
    )


def test_xids_are_counted_by_gpu() -> None:
    record = {"lost": "", "resets": {}, "xids": {"3": {"13": 240, "31": 1}, "0": {"79": 1}}}
    box = replace_report(seen(), gpus=record)
    shown = " ".join(status.as_text(box).split())
    assert "xids GPU 3: Xid 13 ×240, 31 ×1; GPU 0: Xid 79 ×1: launcher logs watch" in shown
    assert json.loads(status.as_json(box))["xids"] == record["xids"]
    for nothing in (None, {}, 3, {"xids": 3}, {"xids": {"3": 3}}):
        box = replace_report(seen(), gpus=nothing)
        assert "xids" not in status.as_text(box)
        assert json.loads(status.as_json(box))["xids"] == {}


def replace_report(box: status.Seen, **fields: object) -> status.Seen:
    return status.Seen(box.reason, {**box.report, **fields}, box.programs, box.now)


def test_a_hostile_name_and_detail_are_text() -> None:
    evil = "\x1b[2J\nlauncher: all is well\x00" * 50
    box = seen(f"{evil}: no", {evil: {"ready": False, "detail": evil}}, {evil: PROGRAMS["sshd"]})
    shown = status.as_text(box)
    assert "\x1b" not in shown
    assert "\x00" not in shown
    assert not any(line.startswith("launcher: all is well") for line in shown.splitlines())
    assert all(len(line) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("services", [None, 3, {"jupyter": 3}, {"jupyter": {}}])
def test_a_report_of_another_version_is_shown_all_the_same(services: object) -> None:
    box = status.Seen("unhealthy", {"services": services, "started": "x"}, PROGRAMS, NOW)
    assert "jupyter" in status.as_text(box)
    json.loads(status.as_json(box))


def test_json_says_all() -> None:
    told = json.loads(status.as_json(BROKEN))
    assert (told["state"], told["healthy"]) == ("unhealthy", False)
    assert told["programs"]["jupyter"]["restarts"] == 6
    assert told["programs"]["jupyter"]["for"] == 4.0
    assert told["programs"]["tensorboard"]["required"] is False
    assert told["services"]["gpus"]["detail"] == LOST


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.4, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"),
     (3600, "1 h 0 min"), (86_399, "23 h 59 min"), (86_400, "1 d 0 h"), (300_000, "3 d 11 h")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert status.age_in_words(seconds) == text
