"""When a box that nobody uses ends, and what counts as use."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.guest import __file__ as guest
from launcher.model.secret import Secret
from launcher.model.watch import JupyterDoor
from launcher.supervise import program
from launcher.watch import idle
from launcher.watch.idle import IdleWatch, Use

HOUR = 3600.0
NOBODY = Use("")


def life(limit: float, *used: tuple[float, Use], until: float = 3 * HOUR) -> list[tuple[int, str]]:
    """Return what is said and when, in minutes; the clock is fake, and starts at 0."""
    watched, said, now = IdleWatch(limit, 0.0), [], 0.0
    while now < until:
        use = next((each for at, each in used if at <= now < at + 60), NOBODY)
        line, ends = watched.turn(now, lambda use=use: use)
        if line:
            said.append((round(now / 60), line))
        if ends:
            return said
        now += 5
    return said


def test_it_warns_and_ends() -> None:
    (first, warning), (last, end) = life(HOUR)
    assert (first, last) == (50, 60)
    assert warning.endswith("for 50 min: it ends in 10 min (LAUNCHER_IDLE_SHUTDOWN)")
    assert end == "launcher: nobody has used this box for 60 min: it ends now"


def test_use_puts_it_off_and_it_warns_again() -> None:
    said = life(HOUR, (52 * 60, Use("a kernel computes")))
    assert [minute for minute, _ in said] in ([50, 102, 112], [50, 103, 113])


def test_what_jupyter_saw_earlier_counts_from_then() -> None:
    said = life(HOUR, (30 * 60, Use("", since=600.0)))
    assert said[-1][0] in (80, 81)


def test_a_short_time_warns_at_its_half() -> None:
    assert [line.partition("box ")[2] for _, line in life(60.0)] == [
        "for 30 s: it ends in 30 s (LAUNCHER_IDLE_SHUTDOWN)",
        "for 60 s: it ends now",
    ]


@pytest.fixture
def jupyter() -> Iterator[dict[str, object]]:
    """Answer as Jupyter does; "door" is where."""
    answers: dict[str, object] = {}
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                path, _, query = connection.recv(65536).split()[1].decode().partition("?")
                assert query == "no_track_activity=1"
                body = json.dumps(answers[path]).encode()
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    threading.Thread(target=serve, daemon=True).start()
    port = server.getsockname()[1]
    answers["door"] = JupyterDoor(port, "127.0.0.1", Secret("/x/api/status"), Secret("token t"))
    yield answers
    server.close()


@pytest.mark.parametrize(
    ("kernels", "what"),
    [
        ([], ""),
        ([{"execution_state": "idle"}], ""),
        ([{"execution_state": "idle"}, {"execution_state": "busy"}], "a kernel computes"),
        ([3, {}], ""),
    ],
)
def test_jupyter_is_asked(jupyter: dict, kernels: list, what: str) -> None:
    jupyter["/x/api/kernels"] = kernels
    jupyter["/x/api/status"] = {"last_activity": "2026-01-01T00:00:00.000Z"}
    use = idle.jupyter_use(jupyter["door"])
    assert use.what == what
    assert bool(use.since) == (not what)


def test_a_jupyter_that_does_not_answer_is_no_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert idle.jupyter_use(JupyterDoor(port, "127.0.0.1", Secret("/api/status"))) == NOBODY
    assert idle.jupyter_use(JupyterDoor(port, "127.0.0.1", Secret("/api"))) == NOBODY


@pytest.mark.parametrize(
    ("stamp", "ago"),
    [
        ("2026-01-01T00:00:00.000000Z", 60.0),
        ("2026-01-01T01:00:00+01:00", 60.0),
        ("2026-01-01T00:00:00", 60.0),
        ("2026-01-01T00:05:00Z", 0.0),  # a clock that was set
        ("yesterday", 0.0),
    ],
)
def test_the_time_of_an_activity(stamp: str, ago: float) -> None:
    assert idle.seconds_ago(stamp, 1767225660.0) == ago


def test_who_computes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = iter([10.0, 10.0, 40.0])
    monkeypatch.setattr(idle, "cpu_seconds", lambda: next(spent))
    monkeypatch.setattr(idle, "people", lambda: iter(()))
    clock = iter([0.0, 30.0, 60.0])
    monkeypatch.setattr(idle.time, "monotonic", lambda: next(clock))
    looks = idle.Looks(None, gpus=False)
    assert [looks().what for _ in range(3)] == ["", "", "a program takes the CPU"]


def test_a_login_is_seen_and_a_server_is_none(tmp_path: Path) -> None:
    assert os.getpid() not in list(idle.people())


def test_the_exit_status_of_a_jupyter_that_nobody_uses_is_one_number() -> None:
    source = Path(guest).with_name("jupyter.py").read_text()
    found = re.search(r"^UNUSED = (\d+)", source, re.MULTILINE)
    assert found
    assert int(found[1]) == program.UNUSED
