"""Fixtures of every suite: golden files and the simulated NVIDIA driver."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sim import driver

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"

# A shared machine is slow now and then; that is no property of the code.
settings.register_profile("launcher", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("launcher")

# `nohup` and a shell's `&` have these ignored, and a program would inherit that from pytest.  A
# handler is reset at execve(2): programs under test get the default, pytest is as deaf as before.
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden from what is printed now"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the files begin that take long, so that none of them runs alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME, or write that file (`pytest --update-golden`)."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def private_dir() -> Iterator[Path]:
    """Return a directory below home: sshd trusts no key below /tmp, which everybody writes to."""
    with tempfile.TemporaryDirectory(prefix=".launcher-test-", dir=Path.home()) as path:
        yield Path(path)


Changes = Mapping[str, Mapping[str, str | None]]


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """Return the variables that make a program see a simulated machine as its own."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, so the simulated driver cannot be built")
    libraries = driver.build(driver.CACHE)

    def environment(machine: str | Path, changes: Changes | None = None) -> dict[str, str]:
        if changes:
            path = tmp_path_factory.mktemp("machine") / "varied.machine"
            machine = driver.vary(machine, changes, path)
        return driver.environment(libraries, machine, base={})

    return environment
