"""SSH: who gets in, with which key or password, and what works once inside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.login import (
    KeyPair,
    Login,
    host_key,
    login,
    make_key,
    printed_host_key,
    run_over,
)
from testing.container.terminal import Terminal


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def by_key(shared_box: Boxes, key: KeyPair) -> Box:
    """Start a box that lets one key in."""
    return shared_box("-e", f"PUBLIC_KEY={key.public}")


@pytest.fixture(scope="module")
def by_password(shared_box: Boxes) -> Box:
    """Start a box that nobody gave a key."""
    return shared_box()


# --- by key ---------------------------------------------------------------------------------


def test_paramiko(by_key: Box, key: KeyPair) -> None:
    """And the host key it saw is the one that the banner shows."""
    with login(by_key, key).paramiko() as client:
        assert run_over(client, "id -un; pwd").split() == ["dev", "/home/dev"]
        assert host_key(client) == printed_host_key(by_key.wait_for_banner())


def test_ssh_command(by_key: Box, key: KeyPair) -> None:
    done = login(by_key, key).ssh("id -un; pwd; exit 3")
    assert (done.returncode, done.stdout.split()) == (3, ["dev", "/home/dev"])


def test_ssh_carries_binary_data(by_key: Box, key: KeyPair) -> None:
    done = login(by_key, key).ssh("head -c 3000000 | wc -c", stdin="x" * 3_000_000)
    assert done.stdout.strip() == "3000000"


def test_ssh_login_shell(by_key: Box, key: KeyPair) -> None:
    """`ssh HOST` alone: a login shell on a terminal, with job control."""
    access = login(by_key, key)
    terminal = Terminal(access.command(), access.environment)
    try:
        terminal.type("shopt login_shell; tty; sleep 100 & jobs; exit 5\r")
        terminal.read_until(r"login_shell\s+on")
        terminal.read_until(r"/dev/pts/\d+")
        terminal.read_until(r"\[1\]\+ +Running +sleep 100")
        assert terminal.exit_code() == 5
    finally:
        terminal.close()


def test_sftp_there_and_back(by_key: Box, key: KeyPair, tmp_path: Path) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(bytes(range(256)) * 1000)
    access = login(by_key, key)
    done = access.sftp(f"put {sent} /workspace/over-sftp\nget /workspace/over-sftp {received}\n")
    assert done.returncode == 0, done.stderr
    assert received.read_bytes() == sent.read_bytes()
    with access.paramiko() as client, client.open_sftp() as sftp:
        assert sftp.stat("/workspace/over-sftp").st_uid == 1000


@pytest.mark.parametrize("protocol", [(), ("-O",)], ids=["sftp", "rcp"])
def test_scp_there_and_back(
    by_key: Box, key: KeyPair, tmp_path: Path, protocol: tuple[str, ...]
) -> None:
    """`-O` is what older clients do: they run scp on the other side."""
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.write_bytes(bytes(range(256)) * 1000)
    access = login(by_key, key)
    for source, target in (
        (str(sent), ":/workspace/over-scp"),
        (":/workspace/over-scp", str(received)),
    ):
        done = access.scp(source, target, *protocol)
        assert done.returncode == 0, done.stderr
    assert received.read_bytes() == sent.read_bytes()


def test_port_forwarding_reaches_jupyter(by_key: Box, key: KeyPair) -> None:
    """`ssh -L`, as an IDE does it."""
    with login(by_key, key).paramiko() as client:
        transport = client.get_transport()
        assert transport
        with transport.open_channel("direct-tcpip", ("127.0.0.1", 8888), ("", 0)) as channel:
            channel.settimeout(20)
            channel.sendall(b"GET /api HTTP/1.0\r\n\r\n")
            assert b" 200 OK" in channel.makefile("rb").readline()


def test_root_by_key(by_key: Box, key: KeyPair) -> None:
    """Root logs in to its own home, and with the planned environment."""
    done = login(by_key, key, user="root").ssh("id -u; echo $HOME $USER $PATH")
    uid, home, user, path = done.stdout.split()
    assert (uid, home, user) == ("0", "/root", "root")
    assert path.startswith("/opt/launcher/command:/opt/venv/bin:")


def test_another_key_is_refused(by_key: Box, tmp_path: Path) -> None:
    banner = by_key.wait_for_banner()
    assert "   1 public key may log in" in banner
    assert not Login(by_key.port(22), key=make_key(tmp_path)).is_let_in()


def test_with_a_key_there_is_no_password(by_key: Box) -> None:
    banner = by_key.wait_for_banner()
    assert "password" not in banner
    done = Login(by_key.port(22), password="guess").ssh("true")
    assert done.returncode != 0
    assert "Permission denied (publickey)" in done.stderr


# --- by password ------------------------------------------------------------------------------


def test_password_of_the_banner(by_password: Box) -> None:
    access = login(by_password)
    assert access.password
    assert len(access.password) >= 22, "of a token's strength"
    assert access.ssh("id -un").stdout == "dev\n"
    assert access.is_let_in()


def test_another_password_is_refused(by_password: Box) -> None:
    access = login(by_password)
    assert not Login(access.port, password="dev").is_let_in()
    assert not Login(access.port, "root", password=access.password).is_let_in()


def test_sftp_by_password(by_password: Box) -> None:
    with login(by_password).paramiko() as client, client.open_sftp() as sftp:
        with sftp.open("/workspace/note", "w") as file:
            file.write("written")
        assert by_password.exec("cat", "/workspace/note").stdout == "written"


def test_password_can_be_switched_off(box: Boxes) -> None:
    closed = box(*SSH_ALONE, "-e", "LAUNCHER_SSH_PASSWORD=off")
    banner = closed.wait_for_banner()
    assert "nobody can log in: no key, and no password (LAUNCHER_SSH_PASSWORD=off)" in banner
    assert '-e PUBLIC_KEY="$(cat ~/.ssh/id_ed25519.pub)"' in banner
    assert printed_host_key(banner)
    done = Login(closed.port(22), password="guess").ssh("true")
    assert "Permission denied (publickey)" in done.stderr


def test_two_boxes_share_no_secret(by_key: Box, by_password: Box) -> None:
    """Nothing of what lets people in comes from the image."""
    found = [
        re.search(r"token=\S+", box.wait_for_banner()) or pytest.fail("no token")
        for box in (by_key, by_password)
    ]
    assert found[0][0] != found[1][0]
    keys = [printed_host_key(box.wait_for_banner()) for box in (by_key, by_password)]
    assert keys[0] != keys[1]
