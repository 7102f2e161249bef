"""Each cause, built from the outside, yields exactly its one failure and a fix that names it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from launcher.checks import CHECKS
from testing.doctor.scenario import Scenario
from testing.values import replace
from tests.doctor.causes import CAUSES, HEALTHY
from tests.doctor.causes.hardware import DRIVER, HARDWARE
from tests.doctor.causes.libraries import LIBRARY
from tests.doctor.causes.pairs import PAIRS
from tests.doctor.causes.runtime import RUNTIME
from tests.doctor.causes.surroundings import ENVIRONMENT, RESOURCES
from tests.doctor.conftest import Doctor

pytestmark = pytest.mark.long

# The CPUs are those of the machine that runs the tests: they may be fewer than simulated GPUs.
# So is the limit of locked memory, where the scenario does not set it.
OF_THIS_MACHINE = {"resources.cpus", "resources.memlock"}

SEEN_AT_START = tuple(
    scenario
    for scenario in (*HARDWARE, *DRIVER, *RUNTIME, *LIBRARY, *ENVIRONMENT, *RESOURCES)
    if not scenario.at_start and not scenario.started_well
)
# Where NVML fails, and only the libraries or a trial of CUDA tell why.
SAID_AT_START = {
    "fabric-in-progress-at-start": "driver.fabric_manager",
    "compute-only-at-start": "runtime.no_utility",
    "nodes-only-at-start": "runtime.no_utility",
    "not-in-cache-at-start": "runtime.no_utility",
    "nvml-wrong-class-at-start": "libraries.broken",
    "second-nvml-at-start": "driver.mismatch",
}


def at_start(scenario: Scenario) -> Scenario:
    return replace(scenario, id=f"{scenario.id}-at-start", at_start=True)


def warned(scenario: Scenario, names: Iterable[str]) -> set[str]:
    """Return the warnings that are the scenario's own."""
    is_set = any("memlock" in word for word in scenario.wrapper)
    return set(names) - (OF_THIS_MACHINE - ({"resources.memlock"} if is_set else set()))


def named(scenarios: tuple[Scenario, ...]) -> list[object]:
    return [pytest.param(scenario, id=scenario.id) for scenario in scenarios]


@pytest.mark.parametrize("scenario", named(HEALTHY))
def test_a_healthy_machine_has_no_complaint(doctor: Doctor, scenario: Scenario) -> None:
    outcome = doctor(scenario)
    assert (outcome.failure, outcome.status) == (None, 0)
    assert warned(scenario, outcome.warnings) == set()


@pytest.mark.parametrize("scenario", named(CAUSES))
def test_a_cause_yields_its_one_failure(doctor: Doctor, scenario: Scenario) -> None:
    if isinstance(scenario.torch, str) and not Path(scenario.torch).exists():
        pytest.skip("there is no CPU build of PyTorch here")
    outcome = doctor(scenario)
    failure = outcome.failure
    assert (failure["id"] if failure else None) == scenario.expects, failure
    assert outcome.told_otherwise == []
    assert warned(scenario, outcome.warnings) == warned(scenario, scenario.warns)
    assert outcome.status == scenario.exit_status
    finding = failure or outcome.warnings[scenario.warns[0]]
    assert finding["fix"]
    for word in scenario.names:
        assert word in finding["fix"]
    for word in scenario.dropped:
        assert word not in finding["fix"]
    for word in scenario.seen:
        assert word in finding["what"]


@pytest.mark.parametrize("scenario", named(PAIRS))
def test_of_two_causes_the_lower_layer_is_named(doctor: Doctor, scenario: Scenario) -> None:
    outcome = doctor(scenario)
    failure = outcome.failure
    assert (failure["id"] if failure else None) == scenario.expects, failure
    assert outcome.status == scenario.exit_status


@pytest.mark.parametrize("scenario", named(tuple(map(at_start, SEEN_AT_START))))
def test_a_start_says_the_same_or_nothing(doctor: Doctor, scenario: Scenario) -> None:
    """It has tried nothing yet: what it cannot know, it must not guess."""
    outcome = doctor(scenario)
    failure = outcome.failure
    said = SAID_AT_START.get(scenario.id, scenario.expects)
    assert failure is None or failure["id"] == said
    assert warned(scenario, outcome.warnings) <= set(scenario.warns)


# It needs the image's own environment: tests/container/test_packages.py swaps PyTorch there.
IN_A_CONTAINER = {"pytorch.swapped"}


def test_every_check_has_a_scenario() -> None:
    built = {name for one in CAUSES for name in (one.expects, *one.warns) if name}
    assert built == {check.id for check in CHECKS} - IN_A_CONTAINER
    assert len({scenario.id for scenario in (*CAUSES, *HEALTHY)}) == len(CAUSES) + len(HEALTHY)
    assert len({one.expects for one in CAUSES} - {None}) >= 45
