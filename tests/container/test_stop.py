"""How a box ends and what outlives it: stop, restart, signals, and the death of each part."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.container import kernel
from tests.container.box import BANNER, Box, Boxes
from tests.container.engine import poll
from tests.container.login import KeyPair, Login, host_key, login, make_key, run_over

KEYS_DIR = "/etc/launcher/authorized_keys.d"
ORPHANS = 200


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return make_key(tmp_path)


# --- stop -----------------------------------------------------------------------------------


def test_stop_ends_everything_in_time(box: Boxes, key: KeyPair) -> None:
    """An idle kernel, an open login, and a program that wants to outlive it all."""
    started = box("-e", f"PUBLIC_KEY={key.public}")
    server = kernel.connect(started)
    with server.kernel() as notebook, login(started, key).paramiko() as client:
        assert notebook.run("answer = 42") == ""
        client.invoke_shell()
        run_over(
            client, "setsid sh -c 'trap \"\" TERM HUP; sleep 300; sleep 300' > /dev/null 2>&1 &"
        )
        for program in ("ipykernel", "jupyter.py", "sshd: dev@pts", "-bash", "sleep 300"):
            assert poll(lambda name=program: _runs(started, name), timeout=10), program
        seconds = started.stop()
    print(f"stopped in {seconds:.2f} s")
    assert started.exit_code() == 0
    assert seconds < 5
    assert _commands_of(started) == []


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
        deaf = "import re; print('deaf', flush=True); re.match('(a+)+$', 'a' * 99 + 'b')"
        notebook.run_until("deaf", deaf)
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
    for kept in (r"token=\S+", r"password \S+", r"host key SHA256:\S+"):
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


# --- HUP ------------------------------------------------------------------------------------


def test_hup_lets_a_new_key_in_and_ends_nothing(box: Boxes, key: KeyPair, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "team").write_text(f"{key.public}\n")
    newcomer = make_key(tmp_path)
    started = box("-v", f"{mounted}:{KEYS_DIR}:ro")
    with (
        kernel.connect(started).kernel() as notebook,
        login(started, key).paramiko() as open_login,
    ):
        notebook.run("answer = 42")
        assert not login(started, newcomer).is_let_in()
        (mounted / "newcomer").write_text(f"{newcomer.public}\n")
        started.kill("HUP")
        started.wait_for_log("launcher: keys and configuration reloaded")
        assert poll(login(started, newcomer).is_let_in, timeout=5)
        assert login(started, key).is_let_in()
        assert notebook.run("print(answer)") == "42\n"
        assert run_over(open_login, "echo still here") == "still here\n"
    assert started.is_running()


def test_hup_takes_a_removed_key_away(box: Boxes, key: KeyPair, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    leaver = make_key(tmp_path)
    (mounted / "team").write_text(f"{key.public}\n")
    (mounted / "leaver").write_text(f"{leaver.public}\n")
    started = box("-v", f"{mounted}:{KEYS_DIR}:ro")
    assert login(started, leaver).is_let_in()
    (mounted / "leaver").unlink()
    started.kill("HUP")
    assert poll(lambda: not login(started, leaver).is_let_in(), timeout=5)
    assert login(started, key).is_let_in()


def test_hup_that_cannot_be_used_changes_nothing(box: Boxes, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-token")
    started = box(
        "-v", f"{token}:/run/secrets/token", "-e", "JUPYTER_TOKEN_FILE=/run/secrets/token"
    )
    server = kernel.connect(started)
    token.write_text("")
    started.kill("HUP")
    said = started.wait_for_log("launcher: not reloaded, everything stays as it was: (.*)")
    assert "JUPYTER_TOKEN_FILE" in said[1]
    assert server.request("/api/contents").status == 200


# --- the death of a part --------------------------------------------------------------------


def test_jupyter_comes_back(box: Boxes) -> None:
    """On the same port, with the same token."""
    started = box()
    server = kernel.connect(started)
    assert server.run_cell("print('before')") == "before\n"
    old = _pid_of(started, "jupyter.py")
    started.exec("kill", "-KILL", old)
    assert poll(lambda: _pid_of(started, "jupyter.py") not in ("", old), timeout=20)
    assert poll(lambda: server.answers(), timeout=20)
    assert server.run_cell("print('after')") == "after\n"
    assert started.is_running()
    assert len(BANNER.findall(started.logs())) == 1, "it is in the log already"


def test_sshd_comes_back_and_logins_live_on(box: Boxes, key: KeyPair) -> None:
    started = box("-e", f"PUBLIC_KEY={key.public}")
    access = login(started, key)
    with access.paramiko() as open_login:
        started.exec("kill", "-KILL", _pid_of(started, "[listener]"))
        assert run_over(open_login, "echo still here") == "still here\n"
        assert poll(lambda: _can_connect(access), timeout=20)


def test_watch_comes_back(box: Boxes) -> None:
    """Without it nothing says whether the box is healthy."""
    started = box()
    started.wait_for_banner()
    old = _pid_of(started, "watch")
    assert poll(lambda: _is_healthy(started), timeout=30)
    started.exec("kill", "-KILL", old)
    assert poll(lambda: _pid_of(started, "watch") not in ("", old), timeout=20)
    assert poll(lambda: _is_healthy(started), timeout=30)
    assert len(BANNER.findall(started.logs())) == 1, "it is in the log already"


def test_without_supervise_the_container_ends(box: Boxes) -> None:
    started = box()
    started.wait_for_banner()
    started.exec("sh", "-c", "kill -KILL $(cat /run/launcher/supervisord.pid)", check=False)
    assert started.wait(timeout=10) == 70
    assert "launcher: supervise ended by itself: killed by SIGKILL" in started.logs()


def test_a_service_that_fails_for_good_ends_the_container(box: Boxes, tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'cannot find the spam module'\nexit 1\n")
    program.chmod(0o755)
    started = box(
        "-v", f"{program}:/opt/broken/python:ro", "-e", "LAUNCHER_PYTHON=/opt/broken/python"
    )
    assert started.wait(timeout=30) == 70
    said = started.logs()
    assert "launcher: jupyter failed for good, so the container ends. Its last lines:" in said
    assert "\n    cannot find the spam module\n" in said
    assert BANNER.search(said) is None


def test_a_python_that_cannot_be_run_ends_the_container(box: Boxes) -> None:
    started = box("-e", "LAUNCHER_PYTHON=/opt/venv/bin/pyton")
    assert started.wait(timeout=30) == 70
    assert "\n    cannot run /opt/venv/bin/pyton: No such file or directory\n" in started.logs()


# --- orphans --------------------------------------------------------------------------------


def test_orphans_are_reaped(box: Boxes) -> None:
    """Many at once: their parent is gone, so they are PID 1's."""
    started = box()
    started.wait_for_banner()
    started.exec("sh", "-c", f"for i in $(seq {ORPHANS}); do (sleep 300 &); done")
    assert _children_of_init(started, "sleep") == ORPHANS
    started.exec("pkill", "sleep")
    # A zombie keeps its name and its parent.
    assert poll(lambda: _children_of_init(started, "sleep") == 0, timeout=10)


# --- looking at a box -----------------------------------------------------------------------


def _commands_of(box: Box) -> list[str]:
    """Return the command lines of every process of the container, as this machine sees them."""
    id = box.inspect("{{.Id}}")
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if id in (process / "cgroup").read_text():
                command = (process / "cmdline").read_bytes()
                found.append(command.replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue  # it has just ended
    return found


def _runs(box: Box, words: str) -> bool:
    return any(words in command for command in _commands_of(box))


def _pid_of(box: Box, words: str) -> str:
    """Return the pid, inside the box, of the one process with `words` in its command line."""
    lines = box.exec("ps", "-eo", "pid=,args=").stdout.splitlines()
    found = [line.split()[0] for line in lines if words in line]
    assert len(found) <= 1, lines
    return found[0] if found else ""


def _children_of_init(box: Box, name: str) -> int:
    lines = box.exec("ps", "-eo", "ppid=,comm=").stdout.splitlines()
    return sum(line.split()[:2] == ["1", name] for line in lines)


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
    found = re.findall(r"token=\S+|password \S+|host key \S+", box.wait_for_banner())
    assert len(found) == 3, found
    return set(found)


def _is_healthy(box: Box) -> bool:
    return box.exec("launcher", "healthcheck", check=False).returncode == 0


def _can_connect(access: Login) -> bool:
    return access.ssh("true").returncode == 0
