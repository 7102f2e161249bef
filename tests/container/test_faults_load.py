"""Everybody at once: a classroom that logs in, and one that opens its notebooks."""

from __future__ import annotations

import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.container import kernel
from testing.container.box import Box, Boxes
from testing.container.login import Login, login, make_key

# What is measured is a box that has the machine for itself.
pytestmark = pytest.mark.alone

LOGINS = 100
KERNELS = 50


@pytest.fixture(scope="module")
def started(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Login:
    key = make_key(tmp_path_factory.mktemp("keys"))
    return login(shared_box("--health-interval", "10s", "-e", f"PUBLIC_KEY={key.public}"), key)


@pytest.fixture
def busy_box(started: Login, shared_box: Boxes) -> Box:
    return shared_box.running[0]


def test_100_logins_at_once(started: Login, busy_box: Box) -> None:
    """None is dropped, and each runs its command."""
    begin = time.monotonic()
    clients = [
        subprocess.Popen(
            started.command("echo", f"login-{number}"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(LOGINS)
    ]
    said = [client.communicate(timeout=120) for client in clients]
    print(f"{LOGINS} logins in {time.monotonic() - begin:.1f} s")
    assert said == [(f"login-{number}\n", "") for number in range(LOGINS)]
    assert "drop connection" not in busy_box.logs()
    _assert_never_unhealthy(busy_box)


def test_50_kernels_at_once(busy_box: Box) -> None:
    """Each runs its cell, and health does not take a busy box for a broken one."""
    server = kernel.connect(busy_box)
    begin = time.monotonic()
    with ThreadPoolExecutor(KERNELS) as people:
        printed = list(people.map(lambda n: server.run_cell(f"print({n})"), range(KERNELS)))
    print(f"{KERNELS} kernels in {time.monotonic() - begin:.1f} s")
    assert printed == [f"{number}\n" for number in range(KERNELS)]
    said = busy_box.logs()
    assert "is not ready" not in said
    # IPython's kernels quarrel over a history that is not there yet; each then keeps none.
    assert [line for line in _raised_in(said) if "/IPython/core/history.py" not in line] == []
    assert said.count(server.token) == 1, "the banner's alone"
    assert "Address already in use" not in busy_box.logs()
    _assert_never_unhealthy(busy_box)


def _raised_in(log: str) -> list[str]:
    """Return where each traceback begins."""
    return re.findall(r"Traceback \(most recent call last\):\n(.*)", log)


def _assert_never_unhealthy(box: Box) -> None:
    """Docker's own checks, of every ten seconds, and the box's own report."""
    assert box.health() in ("starting", "healthy")
    checks = box.state()["Health"]["Log"] or ()
    assert {one["ExitCode"] for one in checks} <= {0}, checks
    assert box.exec("launcher", "healthcheck", check=False).stdout == ""
