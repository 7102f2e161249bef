"""Fixtures of the suite for a GPU: real under `make test-gpu`, simulated under `make test`."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.gpu import machine as tested
from testing.gpu.idle import Sample, sample
from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report, Result

REPORT = pytest.StashKey[Report]()
WHERE = "GPU_REPORT"  # STEM of the files; set by tools/test_gpu.py


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORT] = Report()


@pytest.hookimpl(hookwrapper=True)  # the newer way needs a pytest that a machine may not have
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Keep how each test ended: one result of its three phases, the first that did not pass."""
    ended = (yield).get_result()
    results = item.config.stash[REPORT].results
    name = item.nodeid.removeprefix("tests/gpu/")
    if ended.when == "call" or not ended.passed:
        why = ended.longrepr[2] if ended.skipped and isinstance(ended.longrepr, tuple) else ""
        why = ended.longreprtext[-4000:] if ended.failed else why.removeprefix("Skipped: ")
        results.append(Result(name, ended.outcome, why, ended.duration))
        write_report(item.config)  # after each: a run that is cut off says what it knew


def pytest_sessionfinish(session: pytest.Session) -> None:
    write_report(session.config)


def write_report(config: pytest.Config) -> None:
    if where := os.environ.get(WHERE):
        config.stash[REPORT].write(Path(where))


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    return request.config.stash[REPORT]


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, report: Report) -> TestedMachine:
    """Return the machine under test; nothing of it is changed by any test."""
    if os.environ.get(tested.REAL):
        found = tested.real()
    else:
        if shutil.which("gcc") is None:
            pytest.skip("gcc is not installed, so the simulated driver cannot be built")
        found = tested.simulated(tmp_path_factory.mktemp("simulated"))
    seen = found.smi()
    report.machine |= {
        "driver": "this machine's" if found.real else "simulated",
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    if seen:
        report.machine |= {
            "GPUs": ", ".join(gpu.text("product_name") or "?" for gpu in seen.gpus),
            "driver version": seen.driver_version,
        }
    return found


@pytest.fixture(scope="session", autouse=True)
def idle(machine: TestedMachine) -> list[Sample]:
    """Return the GPUs as they are before this suite starts anything on them."""
    return sample(machine, 8.0 if machine.real else 1.0)


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder below home: sshd trusts no key below /tmp, which everybody writes to."""
    with tempfile.TemporaryDirectory(prefix=".launcher-gpu-", dir=Path.home()) as path:
        yield Path(path)
