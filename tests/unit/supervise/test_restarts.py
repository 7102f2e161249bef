"""When a program is started again, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.supervise import program as restarts


def history(runs: list[float], longest: float = 30.0) -> list[float]:
    """Return the wait after each of these runs (seconds)."""
    ends, waits = 0, []
    for ran in runs:
        ends = restarts.in_a_row(ends, ran)
        waits.append(restarts.wait(ends, longest))
    return waits


def test_the_first_at_once_and_each_further_one_twice_as_late() -> None:
    assert history([0.1] * 8) == [0, 1, 2, 4, 8, 16, 30, 30]


def test_a_long_run_makes_the_past_forgotten() -> None:
    assert history([1, 1, 1, 60, 1, 59.9, 60]) == [0, 1, 2, 0, 1, 2, 0]


@given(st.integers(0, 10**9), st.floats(0.1, 86400))
def test_the_wait_never_exceeds_the_longest(ends: int, longest: float) -> None:
    assert 0 <= restarts.wait(ends, longest) <= longest
    assert restarts.wait(ends + 1, longest) >= restarts.wait(ends, longest)


def test_the_line_says_how_it_ended_and_when_it_is_back() -> None:
    said = restarts.restart_line("jupyter", 180.0, "killed by SIGKILL", 4, 4.0)
    assert said == "jupyter ended after 3 min (killed by SIGKILL); it is started again in 4 s"
    said = restarts.restart_line("jupyter", 0.2, "exit status 1", 1, 0.0)
    assert said == "jupyter ended after 0 s (exit status 1); it is started again at once"


def test_who_ends_all_the_time_does_not_fill_the_log() -> None:
    lines = [restarts.restart_line("x", 0, "exit status 1", ends, 1) for ends in range(1, 201)]
    said = [ends for ends, line in enumerate(lines, start=1) if line]
    assert said == [1, 2, 3, 4, 5, *range(10, 201, 10)]
    assert "every tenth" in str(lines[4])
    assert "number 200" in str(lines[199])


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5000, "83 min"), (93600, "26 h")],
)
def test_durations_are_for_people(seconds: float, said: str) -> None:
    assert restarts.rounded_duration(seconds) == said
