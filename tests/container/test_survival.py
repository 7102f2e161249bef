"""What a box survives, and what it does not: a reload, and the death of each of its parts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.box import BANNER, SSH_ALONE, Box, Boxes
from testing.container.engine import poll
from testing.container.login import KeyPair, Login, host_key, login, make_key, run_over
from testing.container.processes import commands_of

KEYS_DIR = "/etc/launcher/authorized_keys.d"


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return make_key(tmp_path)


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
        _reload(started)
        assert login(started, newcomer).is_let_in()
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
    started = box(*SSH_ALONE, "-v", f"{mounted}:{KEYS_DIR}:ro")
    assert login(started, leaver).is_let_in()
    (mounted / "leaver").unlink()
    _reload(started)
    assert not login(started, leaver).is_let_in()
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
    """On the same port, with the same token, and nobody else notices."""
    started = box()
    server = kernel.connect(started)
    assert server.run_cell("print('before')") == "before\n"
    old = _pid_of(started, "jupyter.py")
    others = _pid_of(started, "[listener]"), _watch_pid(started)
    started.exec("kill", "-KILL", old)
    assert poll(lambda: _pid_of(started, "jupyter.py") not in ("", old), timeout=20)
    assert poll(lambda: server.answers(), timeout=20)
    assert server.run_cell("print('after')") == "after\n"
    assert poll(lambda: _is_healthy(started), timeout=20)
    assert others == (_pid_of(started, "[listener]"), _watch_pid(started))
    assert len(BANNER.findall(started.logs())) == 1, "it is in the log already"


def test_sshd_comes_back_and_logins_live_on(box: Boxes, key: KeyPair) -> None:
    started = box("-e", f"PUBLIC_KEY={key.public}")
    access = login(started, key)
    with access.paramiko() as open_login:
        offered, jupyter = host_key(open_login), _pid_of(started, "jupyter.py")
        started.exec("kill", "-KILL", _pid_of(started, "[listener]"))
        assert run_over(open_login, "echo still here") == "still here\n"
        assert poll(lambda: _can_connect(access), timeout=20)
        with access.paramiko() as new_login:
            assert host_key(new_login) == offered
        assert poll(lambda: _is_healthy(started), timeout=20)
        assert _pid_of(started, "jupyter.py") == jupyter


def test_watch_comes_back(box: Boxes) -> None:
    """Without it nothing says whether the box is healthy."""
    started = box(*SSH_ALONE)
    started.wait_for_banner()
    old = _watch_pid(started)
    assert poll(lambda: _is_healthy(started), timeout=30)
    started.exec("kill", "-KILL", str(old))
    assert poll(lambda: _watch_pid(started) != old, timeout=20)
    assert poll(lambda: _is_healthy(started), timeout=30)
    assert len(BANNER.findall(started.logs())) == 1, "it is in the log already"


def test_without_supervise_the_container_ends(box: Boxes, key: KeyPair) -> None:
    """And with it the kernel, the login, and what was left in the background."""
    started = box("-e", f"PUBLIC_KEY={key.public}")
    with (
        kernel.connect(started).kernel() as notebook,
        login(started, key).paramiko() as open_login,
        open_login.invoke_shell(),
    ):
        notebook.run("answer = 42")
        run_over(open_login, "setsid sh -c 'trap \"\" TERM HUP; sleep 304' > /dev/null 2>&1 &")
        wanted = ("ipykernel", "sshd: dev@pts", "sleep 304")
        assert poll(lambda: all(word in str(commands_of(started)) for word in wanted), timeout=10)
        started.exec("sh", "-c", "kill -KILL $(cat /run/launcher/supervisord.pid)", check=False)
        assert started.wait(timeout=10) == 70
    assert commands_of(started) == []
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
    assert re.search(r"launcher: jupyter failed for good.*, so the container ends\.", said)
    assert "Its last lines:\n    cannot find the spam module\n" in said
    assert BANNER.search(said) is None


def test_a_python_that_cannot_be_run_ends_the_container(box: Boxes) -> None:
    started = box("-e", "LAUNCHER_PYTHON=/opt/venv/bin/pyton")
    assert started.wait(timeout=30) == 70
    assert "\n    cannot run /opt/venv/bin/pyton: No such file or directory\n" in started.logs()


# --- looking at a box -----------------------------------------------------------------------


def _reload(box: Box) -> None:
    """Send HUP, and wait until sshd, which starts itself anew for it, listens again."""
    box.kill("HUP")
    box.wait_for_log("launcher: keys and configuration reloaded")
    box.wait_for_log(r"sshd \| Received SIGHUP; restarting(?s:.*)sshd \| Server listening on ::")


def _pid_of(box: Box, words: str) -> str:
    """Return the pid, inside the box, of the one process with `words` in its command line."""
    lines = box.exec("ps", "-eo", "pid=,args=").stdout.splitlines()
    found = [line.split()[0] for line in lines if words in line]
    assert len(found) <= 1, lines
    return found[0] if found else ""


def _watch_pid(box: Box) -> int:
    return int(json.loads(box.exec("cat", "/run/launcher/health.json").stdout)["pid"])


def _is_healthy(box: Box) -> bool:
    return box.exec("launcher", "healthcheck", check=False).returncode == 0


def _can_connect(access: Login) -> bool:
    return access.ssh("true").returncode == 0
