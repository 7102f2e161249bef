"""The three things that are done with a contender, and what is measured while they are.

Each returns {measure: values}; a measure that a contender does not have is left out.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from bench.contenders import CONTENDERS, Start
from bench.layout import TOKEN, Layout, with_machine
from bench.processes import cpu_seconds, pss_megabytes, supervising
from bench.stopwatch import Run
from testing.values import replace

Values = dict[str, list[float]]

SETTLE_SECONDS = 10.0  # the child that verified PyTorch has ended by then
IDLE_SECONDS = 30.0
_HEALTH_CHECKS = 5
_PYTHONS = 5
_KERNEL_PATIENCE = 30.0
_KERNEL_REST_SECONDS = 0.5


def start_and_stop(layout: Layout, contender: str) -> Values:
    """From exec until everything answers; then one idle kernel, and SIGTERM."""
    if contender == "python":
        start = _time_python(layout)
        return {"first-line": start, "sshd": start}
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        run = Run(CONTENDERS[contender](layout, Path(folder)))
        try:
            wait_until_up(run)
            values = {name: [run.seconds_to(name)] for name in run.endpoints}
            if (banner := run.seconds_to_banner()) is not None:
                values["first-line"] = [run.seconds_to_first_line()]
                values["banner"] = [banner]
            _start_idle_kernel(run)
        finally:
            stopped = run.stop()
        return {**values, "stop": [stopped]}


def _time_python(layout: Layout) -> list[float]:
    """How long an interpreter takes that does nothing: what a machine is fast at today."""
    seconds = []
    for _ in range(_PYTHONS):
        began = time.monotonic()
        subprocess.run([layout.launcher_python, "-I", "-c", "pass"], check=True)
        seconds.append(time.monotonic() - began)
    return seconds


def hung_driver(layout: Layout, contender: str) -> Values:
    """A driver library that never answers: the first line must come all the same."""
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        start = CONTENDERS[contender](layout, Path(folder))
        environ = with_machine(dict(start.environ), "hung-init")
        run = Run(replace(start, environ=environ))
        try:
            run.wait_for(lambda: bool(run.lines))
        finally:
            run.stop()
        line = run.lines[0][1]
        assert "still asking" in line, line
        return {"hung-driver": [run.seconds_to_first_line()]}


def idle(layout: Layout, contender: str) -> Values:
    """What it costs when nobody does anything, and how long it takes to ask how it is."""
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        run = Run(CONTENDERS[contender](layout, Path(folder)))
        try:
            wait_until_up(run)
            run.read_for(SETTLE_SECONDS)
            own = supervising(run.pid)
            used, since = cpu_seconds(own), time.monotonic()
            run.read_for(IDLE_SECONDS)
            share = (cpu_seconds(own) - used) / (time.monotonic() - since)
            memory = pss_megabytes(own)
            # A look at the GPUs may be under way: a child, whose time counts as its parent's.
            assert set(own) <= set(supervising(run.pid)), "a process went while idle"
            health = [_time_health(run.start) for _ in range(_HEALTH_CHECKS)]
        finally:
            run.stop()
        return {
            "memory": [memory],
            "processes": [len(own)],
            "idle-cpu": [100 * share],
            "healthcheck": health,
        }


def wait_until_up(run: Run) -> None:
    names = tuple(run.endpoints)
    run.wait_for(lambda: all(run.endpoints[name].answered for name in names), looking=names)
    if run.start.banner_file:
        run.wait_for(lambda: run.seconds_to_banner() is not None)


def _time_health(start: Start) -> float:
    began = time.monotonic()
    subprocess.run(
        start.health_argv, env=dict(start.environ), check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - began


def _start_idle_kernel(run: Run) -> None:
    """Start a kernel as a notebook does, and wait until it has nothing to do."""
    path = f"/api/kernels/{request(run, 'POST', '/api/kernels')['id']}"
    # The server greets a kernel when the first websocket opens: only then does it get to "idle".
    with _open_websocket(run, f"{path}/channels"):
        deadline = time.monotonic() + _KERNEL_PATIENCE
        while (state := request(run, "GET", path)["execution_state"]) != "idle":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the kernel stays {state!r}:\n{run.tail()}")
            run.read_for(0.05)
    run.read_for(_KERNEL_REST_SECONDS)


def _open_websocket(run: Run, path: str) -> socket.socket:
    port = run.start.jupyter_port
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(
        f"GET {path}?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    return connection


def request(run: Run, method: str, path: str) -> dict[str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", run.start.jupyter_port, timeout=30)
    try:
        connection.request(method, path, headers={"Authorization": f"token {TOKEN}"})
        response = connection.getresponse()
        body = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {body[:200]!r}")
        answer: dict[str, str] = json.loads(body)
        return answer
    finally:
        connection.close()
