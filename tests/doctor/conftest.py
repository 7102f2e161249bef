"""Every scenario that this run will ask about is played once, some at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from sim import driver
from testing.doctor.scenario import Outcome, Scenario, play
from testing.doctor.tree import NotPossible

Doctor = Callable[[Scenario], Outcome]


@pytest.fixture(scope="session")
def doctor(request: pytest.FixtureRequest) -> Iterator[Doctor]:
    """Return what runs the doctor on a scenario."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, so the simulated driver cannot be built")
    built = driver.build(driver.CACHE)
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    wanted = {spec.params["scenario"].id: spec.params["scenario"] for spec in specs if spec
              and "scenario" in spec.params}  # fmt: skip
    # Most of the time goes into waiting for children.
    with ThreadPoolExecutor(max_workers=1 + (os.cpu_count() or 1)) as pool:
        played: dict[str, Future[Outcome | NotPossible]] = {
            name: pool.submit(play, scenario, built) for name, scenario in wanted.items()
        }

        def run(scenario: Scenario) -> Outcome:
            outcome = played[scenario.id].result()
            if isinstance(outcome, NotPossible):
                pytest.skip(str(outcome))
            return outcome

        yield run
        pool.shutdown(cancel_futures=True)
