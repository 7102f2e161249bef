"""How many threads numeric libraries may start: only where a limit binds, never over the user."""

from __future__ import annotations

import pytest

from launcher.model.machine import CpuBudget, Limits
from launcher.plan.threads import NAMES, plan_threads


def limits(allowed: int = 128, quota: float | None = None, pids: int | None = None) -> Limits:
    """Return the limits of a container on a machine with 128 CPUs."""
    return Limits(CpuBudget(128, allowed, quota), None, None, pids, None)


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        (limits(), 8),
        (limits(allowed=8), 1),  # a cpuset: the libraries see it themselves
        (limits(allowed=8, quota=16.0), 1),
        (limits(allowed=8, quota=8.0), 1),
        (limits(pids=128 * 16), 1),
        (limits(allowed=4, pids=64), 4),
    ],
)
def test_nothing_is_set_where_no_limit_binds(given: Limits, devices: int) -> None:
    assert plan_threads(given, devices, {}) == ()


@pytest.mark.parametrize(
    ("given", "devices", "threads", "why"),
    [
        (limits(quota=16.0), 0, "16", "16 CPUs by quota"),
        (limits(quota=16.0), 1, "16", "16 CPUs by quota"),
        (limits(quota=16.0), 3, "5", "16 CPUs by quota, shared by 3 GPUs"),
        (limits(quota=2.9), 1, "2", "2.9 CPUs by quota"),
        (limits(quota=0.5), 1, "1", "0.5 CPUs by quota"),
        (limits(quota=1.0), 1, "1", "1 CPU by quota"),
        (limits(quota=4.0), 8, "1", "4 CPUs by quota, shared by 8 GPUs"),
        (limits(pids=256), 1, "16", "256 processes at most"),
        (limits(pids=256), 4, "4", "256 processes at most, shared by 4 GPUs"),
        (limits(pids=10), 1, "1", "10 processes at most"),
        (limits(quota=8.0, pids=256), 1, "8", "8 CPUs by quota"),  # the narrower one counts
        (limits(quota=32.0, pids=256), 1, "16", "256 processes at most"),
    ],
)
def test_one_gpus_share_of_the_limit_that_binds(
    given: Limits, devices: int, threads: str, why: str
) -> None:
    planned = plan_threads(given, devices, {})
    assert [var.name for var in planned] == list(NAMES)
    assert {(var.value, var.why) for var in planned} == {(threads, why)}


def names(environ: dict[str, str]) -> set[str]:
    return {var.name for var in plan_threads(limits(quota=8.0), 1, environ)}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "OMP_NUM_THREADS"])
def test_what_the_user_set_is_kept(name: str) -> None:
    assert names({name: "3"}) == {*NAMES} - {name}
    assert names({name: ""}) == {*NAMES}


def test_nothing_overrules_the_users_openmp() -> None:
    """MKL, OpenBLAS and NumExpr follow OMP_NUM_THREADS until they have a variable of their own."""
    assert names({"OMP_NUM_THREADS": "1"}) == {"RAYON_NUM_THREADS"}
