"""A log that nobody reads: it must not stop anything."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.container import kernel
from testing.container.box import Box, Boxes
from testing.container.engine import DOCKER, poll
from testing.container.login import login

PYTHON = ("/opt/launcher/bin/python", "-I", "-")
# Is there no room in the container's standard output?  Opened anew, so O_NONBLOCK stays ours.
OUTPUT_IS_FULL = """
import os, select
output = os.open("/proc/1/fd/1", os.O_WRONLY | os.O_NONBLOCK)
print(select.select([], [output], [], 0)[1] == [])
"""
FLOOD = """\
[program:flood]
command=/bin/sh -c "until [ -e /run/flood ]; do sleep 0.1; done; exec yes nobody reads this"
"""
SMALL_LOG = ("--log-opt", "max-size=10m")


@contextmanager
def attached(box: Box) -> Iterator[None]:
    """Attach to a box, and read nothing of what it says: Docker then reads no more from it."""
    reader = subprocess.Popen(
        [DOCKER, "attach", "--no-stdin", "--sig-proxy=false", box.name],
        env=box.docker.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        yield
    finally:
        reader.kill()
        reader.communicate()


def is_stuck(box: Box) -> bool:
    """Say whether nobody takes the box's output: a busy reader makes room now and then."""
    return all(box.exec(*PYTHON, stdin=OUTPUT_IS_FULL).stdout == "True\n" for _ in range(5))


def stop(box: Box) -> subprocess.Popen[bytes]:
    """Run `docker stop` to the end of the box's processes, which has to come in time.

    The command goes on: Docker waits until somebody has read what the box said, whatever ran in it.
    """
    first = Path("/proc", str(box.state()["Pid"]))
    assert first.exists()
    command = subprocess.Popen([DOCKER, "stop", box.name], env=box.docker.environment)
    assert poll(lambda: not first.exists(), timeout=9.5)  # at ten seconds, Docker kills it
    return command


def test_a_log_that_nobody_reads_stops_nothing(box: Boxes, tmp_path: Path) -> None:
    """Flooded and stuck, the box works, is healthy, and ends in time."""
    (tmp_path / "flood.conf").write_text(FLOOD)
    flood = f"{tmp_path}/flood.conf:/etc/launcher/supervisor.d/flood.conf:ro"
    started = box("-v", flood, *SMALL_LOG)
    server, ssh = kernel.connect(started), login(started)
    with attached(started):
        started.exec("touch", "/run/flood")
        assert poll(lambda: is_stuck(started), timeout=30)
        assert server.answers()
        assert ssh.is_let_in()
        assert started.exec("launcher", "healthcheck", check=False).returncode == 0
        assert is_stuck(started)
        stopping = stop(started)
    assert stopping.wait(30) == 0
    assert started.exit_code() == 0


def test_a_command_whose_output_nobody_reads_can_be_stopped(box: Boxes) -> None:
    script = "until [ -e /tmp/flood ]; do sleep 0.1; done; exec yes nobody reads this"
    started = box(*SMALL_LOG, command=["sh", "-c", script])
    with attached(started):
        started.exec("touch", "/tmp/flood")
        assert poll(lambda: is_stuck(started), timeout=30)
        stopping = stop(started)
    assert stopping.wait(30) == 0
    assert started.exit_code() == 128 + 15
