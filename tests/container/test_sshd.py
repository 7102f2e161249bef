"""sshd as real clients use it: forwarding, rsync, VS Code, clients of old, ssh-audit."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import paramiko
import pytest

from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.engine import poll
from testing.container.login import (
    OPTIONS,
    RSA_KEY,
    KeyPair,
    Login,
    has_every_host_key,
    login,
    make_key,
    printed_host_key,
)
from testing.container.terminal import Terminal

GREETING = b"hello from this machine"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def started(shared_box: Boxes, key: KeyPair) -> Box:
    return shared_box("-e", f"PUBLIC_KEY={key.public}")


@pytest.fixture(scope="module")
def access(started: Box, key: KeyPair) -> Login:
    return login(started, key)


@pytest.fixture(scope="module")
def with_rsa(started: Box) -> Box:
    """The same box, once it has made its RSA host key: at its first start, and by itself."""
    started.wait_for_banner()
    assert poll(lambda: has_every_host_key(started), timeout=150, interval=0.5)
    return started


# --- how it is set up ------------------------------------------------------------------------


def test_ssh_audit_finds_no_failure(with_rsa: Box) -> None:
    audit = [
        str(Path(sys.executable).with_name("ssh-audit")),  # a venv's programs may not be on PATH
        "--no-colors",
        "--skip-rate-test",
        "-p",
        str(with_rsa.port(22)),
        "127.0.0.1",
    ]
    done = subprocess.run(audit, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 2), f"2 is warnings, 3 failures\n{done.stdout}"
    assert "[fail]" not in done.stdout
    kinds = set(re.findall(r"^\(key\) (\S+)", done.stdout, re.M))
    assert kinds == {"ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"}
    assert "(3072-bit)" in done.stdout
    # All that is warned of: a key exchange for clients that know no post-quantum one.
    warned = re.findall(r"^\((\w+)\) .*\[warn\] (.*)", done.stdout, re.M)
    assert set(warned) == {("kex", "does not provide protection against post-quantum attacks")}


def test_a_client_that_knows_no_ed25519(with_rsa: Box, access: Login) -> None:
    old = (
        "-o",
        "HostKeyAlgorithms=rsa-sha2-256",
        "-o",
        "KexAlgorithms=diffie-hellman-group16-sha512",
    )
    done = access.run([*access.command()[:-1], *old, access.command()[-1], "echo in"])
    assert done.stdout == "in\n", done.stderr


def test_the_banner_that_is_kept_has_the_rsa_key_too(with_rsa: Box) -> None:
    said = RSA_KEY.search(with_rsa.logs())
    assert said
    assert f"RSA host key {said[1]}" in with_rsa.exec("launcher", "banner").stdout


def test_a_first_start_looks_like_no_trouble_of_sshd_s(with_rsa: Box) -> None:
    """The HUP by which sshd has that key is ours, and so is the watch that came to look."""
    said = [line for line in with_rsa.logs().splitlines() if line.startswith("sshd | ")]
    assert not [line for line in said if "SIGHUP" in line], said
    assert sum("Server listening" in line for line in said) == 2, said


OLD = ("ecdh-sha2-nistp256,diffie-hellman-group14-sha256", "hmac-sha2-256", "aes128-ctr")


def with_old_algorithms(access: Login) -> subprocess.CompletedProcess[str]:
    kex, mac, cipher = OLD
    options = [f"KexAlgorithms={kex}", f"MACs={mac}", f"Ciphers={cipher}", "LogLevel=INFO"]
    words = [word for option in options for word in ("-o", option)]
    program, *rest = access.command()  # the first value of an option counts
    return access.run([program, *words, *rest, "echo in"])


def test_an_old_client_is_told_what_would_let_it_in(started: Box, access: Login) -> None:
    for _ in range(2):
        assert "no matching" in with_old_algorithms(access).stderr
    started.wait_for_log("launcher: an SSH client knows none of what sshd offers")
    assert started.logs().count("LAUNCHER_SSH_COMPAT=1") == 1  # once is enough


def test_old_clients_are_let_in_where_that_is_asked_for(box: Boxes, key: KeyPair) -> None:
    old = box(*SSH_ALONE, "-e", f"PUBLIC_KEY={key.public}", "-e", "LAUNCHER_SSH_COMPAT=1")
    assert with_old_algorithms(login(old, key)).stdout == "in\n"


def test_an_agent_full_of_keys_gets_in(
    started: Box, access: Login, key: KeyPair, tmp_path: Path
) -> None:
    """sshd's own limit is six attempts; each key that is offered is one."""
    others = [make_key(tmp_path) for _ in range(9)]
    words = [word for each in (*others, key) for word in ("-i", str(each.private))]
    client = ["ssh", *OPTIONS, *words, "-p", str(access.port), f"{access.user}@127.0.0.1"]
    assert access.run([*client, "echo in"]).stdout == "in\n"


def test_more_of_sshd_s_configuration_may_be_mounted(
    box: Boxes, key: KeyPair, tmp_path: Path
) -> None:
    (tmp_path / "mine.conf").write_text("AcceptEnv MINE\nPasswordAuthentication yes\n")
    mounted = ("-v", f"{tmp_path}:/etc/launcher/sshd_config.d:ro")
    started = box(*SSH_ALONE, "-e", f"PUBLIC_KEY={key.public}", *mounted)
    access = login(started, key)
    command = [*access.command()[:-1], "-o", "SetEnv=MINE=5", access.command()[-1]]
    assert access.run([*command, "echo $MINE $WORKSPACE"]).stdout == "5 /workspace\n"
    config = started.exec("/usr/sbin/sshd", "-T", "-f", "/run/launcher/ssh/sshd_config").stdout
    assert "passwordauthentication no" in config  # who may log in is settled before

    (tmp_path / "wrong.conf").write_text("Colour blue\n")
    refused = box(*SSH_ALONE, *mounted)
    assert refused.wait() == 78
    assert "sshd refuses what /etc/launcher/sshd_config.d has: " in refused.logs()
    assert "Bad configuration option: Colour" in refused.logs()
    safe = box(*SSH_ALONE, *mounted, "-e", "LAUNCHER_SAFE_MODE=1")
    assert "NOT READY" not in safe.wait_for_banner()


def test_host_keys_outlive_a_restart_and_the_banner_has_both(
    box: Boxes, key: KeyPair, tmp_path: Path
) -> None:
    state = ("-v", f"{tmp_path}:/var/lib/launcher")
    first = box(*SSH_ALONE, "-e", f"PUBLIC_KEY={key.public}", *state)
    before = printed_host_key(first.wait_for_banner())
    assert poll(lambda: (tmp_path / "ssh_host_rsa_key").exists(), timeout=60)
    first.remove()
    second = box(*SSH_ALONE, "-e", f"PUBLIC_KEY={key.public}", *state)
    banner = second.wait_for_banner()
    assert printed_host_key(banner) == before
    shown = re.search(r"RSA host key (SHA256:\S+)", banner)
    assert shown
    public = tmp_path / "ssh_host_rsa_key.pub"
    listed = subprocess.run(["ssh-keygen", "-l", "-f", public], capture_output=True, text=True)
    assert shown[1] in listed.stdout


# --- in and out ------------------------------------------------------------------------------


def test_rsync_there_and_back(access: Login, tmp_path: Path) -> None:
    sent, received = tmp_path / "sent", tmp_path / "received"
    (sent / "below").mkdir(parents=True)
    (sent / "below" / "data").write_bytes(bytes(range(256)) * 1000)
    ssh = " ".join(access.command()[:-1])
    for source, target in (
        (f"{sent}/", ":/workspace/synced/"),
        (":/workspace/synced/", str(received)),
    ):
        places = [
            f"{access.user}@127.0.0.1{p}" if p.startswith(":") else p for p in (source, target)
        ]
        done = access.run(["rsync", "-a", "-e", ssh, *places])
        assert done.returncode == 0, done.stderr
    assert (received / "below" / "data").read_bytes() == (sent / "below" / "data").read_bytes()


def test_local_forwarding(access: Login) -> None:
    """`ssh -L`: Jupyter's port here."""
    port = free_port()
    with forwarding(access, "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:8888"):
        assert b" 200 " in get(("127.0.0.1", port))


def test_remote_forwarding(access: Login) -> None:
    """`ssh -R`: a server of this machine in the box."""
    with greeter() as port:
        read = "exec 3<>/dev/tcp/127.0.0.1/18999; cat <&3"
        done = access.run(
            [*access.command()[:-1], "-o", "ExitOnForwardFailure=yes",
             "-R", f"18999:127.0.0.1:{port}", access.command()[-1], f"bash -c '{read}'"]
        )  # fmt: skip
    assert done.stdout.encode() == GREETING, done.stderr


def test_agent_forwarding(access: Login, key: KeyPair, tmp_path: Path) -> None:
    """`git push` from the box with the keys of this machine."""
    agent_socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", agent_socket], stdout=subprocess.DEVNULL)
    try:
        assert poll(agent_socket.exists, timeout=10)
        environment = {"SSH_AUTH_SOCK": str(agent_socket)}
        subprocess.run(["ssh-add", "-q", key.private], env=environment, check=True)
        ssh, *options = access.command("ssh-add -L")
        done = access.run([ssh, "-A", "-o", f"IdentityAgent={agent_socket}", *options])
    finally:
        agent.terminate()
        agent.wait()
    assert done.stdout.split()[:2] == key.public.split()[:2], done.stderr


def test_x11_forwarding_is_off(access: Login) -> None:
    with access.paramiko() as client:
        transport = client.get_transport()
        assert transport
        with transport.open_session() as session, pytest.raises(paramiko.SSHException):
            session.request_x11()


def test_vs_codes_way_of_starting(access: Login) -> None:
    """`ssh -T -D PORT HOST bash`: a script on standard input, its server behind a SOCKS proxy."""
    port = free_port()
    argv = [*access.command()[:-1], "-T", "-D", str(port), "-o", "ConnectTimeout=15",
            access.command()[-1], "bash"]  # fmt: skip
    script = (
        'echo "running $BASH_VERSION in $PWD"\n'
        "cd /workspace && echo served > vscode-test\n"
        "python3 -m http.server --bind 127.0.0.1 18998 >/dev/null 2>&1 &\n"
        "until exec 3<>/dev/tcp/127.0.0.1/18998; do sleep 0.1; done 2>/dev/null\n"
        "echo listening as $(id -un) with $(command -v python)\n"
    )
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=access.environment
    ) as ssh:
        try:
            assert ssh.stdin
            assert ssh.stdout
            ssh.stdin.write(script)
            ssh.stdin.flush()
            assert re.fullmatch(r"running 5\S+ in /home/dev\n", ssh.stdout.readline())
            assert ssh.stdout.readline() == "listening as dev with /opt/venv/bin/python\n"
            answer = get_through_socks(port, 18998, b"/vscode-test")
            assert answer.endswith(b"\r\n\r\nserved\n")
        finally:
            ssh.terminate()


def test_a_login_on_a_terminal_leaves_no_complaint_in_the_log(started: Box, access: Login) -> None:
    terminal = Terminal(access.command(), access.environment)
    try:
        terminal.type("who; exit 4\r")
        terminal.read_until(r"dev +pts/\d+")
        assert terminal.exit_code() == 4
    finally:
        terminal.close()
    started.wait_for_log("sshd | Disconnected from user dev")
    complaints = ("lastlog", "utmp", "wtmp", "syslogin", "error:", "Could not", "Couldn't")
    said = [line for line in started.logs().splitlines() if line.startswith("sshd | ")]
    assert [line for line in said if any(word in line for word in complaints)] == []


# --- tools -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def forwarding(access: Login, *options: str) -> Iterator[None]:
    """Run `ssh OPTIONS… HOST` for the length of the block, its first port open."""
    argv = [*access.command()[:-1], *options, access.command()[-1]]
    with subprocess.Popen(argv, env=access.environment) as ssh:
        try:
            port = int(options[-1].split(":")[1])
            assert poll(lambda: answers(port), timeout=20), f"nothing forwards on {port}"
            yield
        finally:
            ssh.terminate()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def greeter() -> Iterator[int]:
    """Serve a greeting to one client, on a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(GREETING)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        thread.join(timeout=5)


def get(address: tuple[str, int], path: bytes = b"/api") -> bytes:
    with socket.create_connection(address, timeout=20) as connection:
        return ask(connection, path)


def get_through_socks(port: int, target: int, path: bytes) -> bytes:
    """GET from 127.0.0.1:TARGET of the other side: RFC 1928, without authentication."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"\x05\x01\x00")
        assert connection.recv(2) == b"\x05\x00"
        connection.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + target.to_bytes(2, "big"))
        assert connection.recv(10)[:2] == b"\x05\x00"
        return ask(connection, path)


def ask(connection: socket.socket, path: bytes) -> bytes:
    connection.sendall(b"GET " + path + b" HTTP/1.0\r\n\r\n")
    with connection.makefile("rb") as stream:
        return stream.read()
