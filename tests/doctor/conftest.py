"""Every scenario that this run will ask about is played once, some at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import SimpleQueue

import pytest

from sim import driver
from testing.doctor.scenario import Outcome, Scenario, Stage
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
    at_once = min(len(wanted), 1 + (os.cpu_count() or 1))
    stages: SimpleQueue[Stage] = SimpleQueue()

    def play(scenario: Scenario) -> Outcome | NotPossible:
        stage = stages.get()
        try:
            return stage.play(scenario)
        finally:
            stages.put(stage)

    with ExitStack() as stack, ThreadPoolExecutor(max_workers=at_once) as pool:
        for _ in range(at_once):
            stages.put(stack.enter_context(closing(Stage(built))))
        played: dict[str, Future[Outcome | NotPossible]] = {
            name: pool.submit(play, scenario) for name, scenario in wanted.items()
        }

        def run(scenario: Scenario) -> Outcome:
            outcome = played[scenario.id].result()
            if isinstance(outcome, NotPossible):
                pytest.skip(str(outcome))
            return outcome

        yield run
        pool.shutdown(cancel_futures=True)
