"""How a box ends, and what outlives it: stop and restart."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.box import BANNER, Box, Boxes
from testing.container.engine import poll
from testing.container.login import KeyPair, host_key, login, make_key, run_over
from testing.container.processes import commands_of, processes


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return make_key(tmp_path)


# --- stop -----------------------------------------------------------------------------------


def test_stop_ends_everything_in_time(box: Boxes, key: KeyPair) -> None:
    """An idle kernel, an open login, and a program that wants to outlive it all."""
    started = box("-e", f"PUBLIC_KEY={key.public}")
    server = kernel.connect(started)
    with (
        server.kernel() as notebook,
        login(started, key).paramiko() as client,
        client.invoke_shell(),
    ):
        assert notebook.run("answer = 42") == ""
        run_over(
            client, "setsid sh -c 'trap \"\" TERM HUP; sleep 300; sleep 300' > /dev/null 2>&1 &"
        )
        for program in ("ipykernel", "jupyter.py", "sshd: dev@pts", "-bash", "sleep 300"):
            assert poll(partial(_runs, started, program), timeout=10), program
        seconds = started.stop()
    print(f"stopped in {seconds:.2f} s")
    assert started.exit_code() == 0
    assert seconds < 5
    assert commands_of(started) == []


@pytest.mark.parametrize("signal", ["TERM", "INT", "QUIT"])
def test_stop_signals(box: Boxes, signal: str) -> None:
    started = box()
    started.wait_for_banner()
    started.kill(signal)
    assert started.wait(timeout=5) == 0


def test_stop_before_it_is_up(box: Boxes) -> None:
    """While the driver is still being asked, and nothing runs yet."""
    started = box("--gpus", "all", "-e", "NVSIM_CONTAINER_MACHINE=hung-init")
    started.wait_for_log("still asking the NVIDIA driver")
    assert started.stop() < 5
    assert started.exit_code() == 0


def test_a_cell_that_runs_does_not_delay_the_end(box: Boxes) -> None:
    """Busy in C, holding the interpreter's lock: deaf to SIGINT and to its parent's death."""
    started = box()
    with kernel.connect(started).kernel() as notebook:
        # What is printed goes out through a thread, which will never run again.
        deaf = "import re, time; print('deaf', flush=True); time.sleep(0.3)\n"
        notebook.run_until("deaf", deaf + "re.match('(a+)+$', 'a' * 99 + 'b')")
        (busy,) = (each for each in processes(started) if b"ipykernel_launcher" in each.cmdline)
        until = busy.cpu_seconds() + 0.5  # of computing, which its sleep is not
        assert poll(lambda: busy.cpu_seconds() > until, timeout=20)
        seconds = started.stop()
    print(f"stopped in {seconds:.2f} s")
    assert started.exit_code() == 0
    assert seconds < 9, "Docker kills after 10 s"


# --- restart --------------------------------------------------------------------------------


def test_restart_keeps_what_people_wrote_down(box: Boxes) -> None:
    """The token, the password and the host key: a bookmark and known_hosts stay good."""
    started = box()
    first = started.wait_for_banner()
    started.exec("touch", "/workspace/notes", user="dev")
    started.restart()
    second = _wait_for_banners(started, 2)
    for kept in (r"token=\S+", r"password \S+", r"(?<!RSA )host key SHA256:\S+"):
        assert re.findall(kept, first) == re.findall(kept, second) != []
    assert kernel.Server(_published_url(started, first)).request("/api/contents").status == 200
    with login(started).paramiko() as client:
        assert f"host key {host_key(client)}" in first
        assert run_over(client, "ls /workspace").split() == ["notes"]


def test_a_new_container_has_new_secrets_unless_the_volume_is_kept(box: Boxes) -> None:
    volume = f"launcher-state-{os.getpid()}"
    docker = box.docker
    try:
        first, second = (box("-v", f"{volume}:/var/lib/launcher") for _ in range(2))
        assert _secrets(first) == _secrets(second)
        assert not _secrets(first) & _secrets(box())
    finally:
        box.remove_all()
        docker("volume", "rm", volume)


def test_restart_after_a_kill(box: Boxes) -> None:
    """What a box that was never stopped leaves behind does not disturb the next."""
    started = box()
    first = started.wait_for_banner()
    started.kill("KILL")
    assert started.wait() == 137
    started.start()
    second = _wait_for_banners(started, 2)
    assert re.findall(r"token=\S+", first) == re.findall(r"token=\S+", second)
    assert kernel.connect(started).run_cell("print('works')") == "works\n"


# --- looking at a box -----------------------------------------------------------------------


def _runs(box: Box, words: str) -> bool:
    return any(words in command for command in commands_of(box))


def _wait_for_banners(box: Box, count: int) -> str:
    """Return the banner of the latest start, once the log holds `count` of them."""
    found: list[str] = []

    def enough() -> bool:
        found[:] = [match[0] for match in BANNER.finditer(box.logs())]
        return len(found) == count

    assert poll(enough, timeout=60, interval=0.2), box.logs()
    return found[-1]


def _published_url(box: Box, banner: str) -> str:
    return kernel.printed_url(banner).replace(":8888/", f":{box.port(8888)}/")


def _secrets(box: Box) -> set[str]:
    # The RSA host key stands there only where it was made in time.
    found = re.findall(r"token=\S+|password \S+|(?<!RSA )host key \S+", box.wait_for_banner())
    assert len(found) == 3, found
    return set(found)
