"""Whom sshd lets in, with a real one: the configuration that is written, and OpenSSH's answer."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.box import state as box_state
from launcher.render.sshd import sshd_config
from testing.local_box import free_ports, wait_until
from testing.machines import CASES
from testing.values import replace

SSHD = "/usr/sbin/sshd"
pytestmark = pytest.mark.skipif(not os.path.exists(SSHD), reason="no sshd is installed")

# Nothing of the machine's own, and no question.
OPTIONS = (
    "-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oLogLevel=ERROR",
    "-oUserKnownHostsFile=/dev/null", "-oIdentityAgent=none", "-oConnectTimeout=10",
)  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A real sshd, and a key that it was given."""

    port: int
    key: Path
    log: Path

    def ssh(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = ["ssh", *OPTIONS, "-i", str(self.key), "-p", str(self.port), f"{user}@127.0.0.1"]
        return subprocess.run([*argv, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture
def server(private_dir: Path, tmp_path: Path) -> Iterator[Server]:
    """Start sshd for the user of these tests."""
    state = private_dir / "sshd-state"
    (state / "ssh").mkdir(parents=True, exist_ok=True)
    box_state.open_state(str(state), [], login_key=True)
    keys = state / "ssh" / "authorized_keys"
    shutil.copyfile(state / "login_key.pub", keys)
    keys.chmod(0o644)
    for folder in (private_dir, state, state / "ssh"):
        folder.chmod(0o755)  # sshd reads the keys as who logs in
    plan = CASES["h100-8x"].plan()
    assert plan.ssh is not None
    (port,) = free_ports(1)
    ssh = replace(
        plan.ssh, port=port, listen="127.0.0.1", password=None, user=getpass.getuser(), others=()
    )
    paths = replace(plan.paths, state=str(state), run=str(state))
    config, log = tmp_path / "sshd_config", tmp_path / "log"
    config.write_text(sshd_config(replace(plan, paths=paths), ssh))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    with log.open("wb") as stream:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=stream)
    try:
        wait_until(lambda: b"listening" in log.read_bytes(), "sshd listens")
        yield Server(port, Path(shutil.copy(state / "login_key", tmp_path)), log)
    finally:
        process.terminate()
        process.wait(10)


def test_a_key_opens_the_workspace_user_s_account(server: Server) -> None:
    done = server.ssh(getpass.getuser(), "id -un")
    assert (done.returncode, done.stdout.strip()) == (0, getpass.getuser()), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets others in as root only")
@pytest.mark.parametrize("account", ["www-data", "games", "backup", "bin", "nobody"])
def test_a_key_opens_no_account_of_the_base(server: Server, account: str) -> None:
    """A tunnel needs no shell, so `nologin` keeps nobody out."""
    port = str(*free_ports(1))
    done = server.ssh(
        account, "-N", "-L", f"{port}:127.0.0.1:{server.port}", "-oExitOnForwardFailure=yes"
    )
    assert done.returncode == 255
    assert "Permission denied" in done.stderr
    assert "not listed in AllowUsers" in server.log.read_text()


def test_connections_that_say_nothing_lock_nobody_out(server: Server) -> None:
    """Not even from the address that they come from: a classroom may be behind one."""
    silent = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(450)]
    try:
        logins = [server.ssh(getpass.getuser(), "true").returncode for _ in range(10)]
    finally:
        for connection in silent:
            connection.close()
    assert logins.count(0) >= 9
