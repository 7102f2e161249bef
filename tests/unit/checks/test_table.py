"""The table of checks as a whole, and how it is judged."""

from __future__ import annotations

import pytest

from launcher.checks import CHECKS, LAYERS, judge
from launcher.checks.check import Check
from launcher.model.evidence import Evidence
from testing.evidences import cheap, healthy
from testing.machines import CASES, NO_CARD, NO_LIBRARY, GpuReport, answering, gpu


def test_ids_are_unique() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)


def test_the_table_goes_from_the_lowest_layer_up() -> None:
    places = [LAYERS.index(check.id.partition(".")[0]) for check in CHECKS]
    assert places == sorted(places)
    assert set(places) == set(range(len(LAYERS)))


def test_every_check_says_what_it_means() -> None:
    assert all(check.means for check in CHECKS)
    assert all(check.fix for check in CHECKS)


@pytest.mark.parametrize("count", [1, 2, 8])
def test_where_all_is_well_there_is_nothing_to_say(count: int) -> None:
    verdict = judge(healthy(count))
    assert verdict.failure is None
    assert verdict.warnings == ()
    assert verdict.exit_status == 0


@pytest.mark.parametrize("name", CASES)
def test_a_machine_without_a_usable_gpu_always_has_a_reason(name: str) -> None:
    found = CASES[name].machine
    verdict = judge(Evidence(found, {}))
    if not found.report.gpus:
        assert verdict.failure is not None


@pytest.mark.parametrize("name", CASES)
def test_where_no_gpu_is_wanted_nothing_about_them_is_a_failure(name: str) -> None:
    verdict = judge(Evidence(CASES[name].machine, {"CUDA_VISIBLE_DEVICES": ""}, cpu_only=True))
    assert (verdict.failure, verdict.exit_status) == (None, 0)


# --- judging ---------------------------------------------------------------------------------


def row(check_id: str, applies: bool = True, warning: bool = False) -> Check:
    what = f"seen by {check_id}"
    return Check(check_id, lambda _: what if applies else None, "means", "fix", warning)


@pytest.mark.parametrize(
    ("table", "failure", "status"),
    [
        ((row("hardware.a", applies=False), row("cuda.b")), "cuda.b", 15),
        ((row("hardware.a"), row("cuda.b")), "hardware.a", 11),
        ((row("driver.a", warning=True), row("resources.b")), "resources.b", 18),
        ((row("driver.a", warning=True),), None, 0),
        ((), None, 0),
    ],
)
def test_the_lowest_failure_is_the_one(table, failure: str | None, status: int) -> None:
    verdict = judge(healthy(), table)
    assert (verdict.failure and verdict.failure.id) == failure
    assert verdict.exit_status == status


def test_warnings_are_told_beside_a_failure() -> None:
    verdict = judge(healthy(), (row("driver.a"), row("resources.b", warning=True)))
    assert [finding.id for finding in verdict.warnings] == ["resources.b"]


def test_a_fix_may_depend_on_what_was_seen() -> None:
    depends = Check("cuda.a", lambda _: "x", "means", lambda seen: f"{len(seen.gpus)} GPUs")
    failure = judge(healthy(2), (depends,)).failure
    assert failure is not None
    assert failure.fix == "2 GPUs"


def test_a_start_that_tried_nothing_accuses_nobody() -> None:
    """No library was looked for and CUDA was not tried: that is no failure of theirs."""
    assert judge(cheap(answering(gpu(0)), healthy(1).hardware)).failure is None
    failure = judge(cheap(GpuReport(failure=NO_LIBRARY), NO_CARD)).failure
    assert failure is not None
    assert failure.id == "hardware.none"
