"""Does a service really answer?  Against servers that answer rightly, wrongly or not at all."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.box import state
from launcher.model.plan import Address, Hub, Jupyter, Secret, Ssh
from launcher.model.watch import Probe, SshDoor
from launcher.plan.watch import jupyter_door
from launcher.watch import ready
from testing.local_box import free_ports, wait_until
from testing.machines import HOST_KEY
from testing.values import replace

ADDRESS = Address("127.0.0.1", 1, 1, True)


class Server:
    """Takes one connection after another, remembers what was asked, and says one thing."""

    def __init__(self, answer: bytes) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = answer
        self.port = self._socket.getsockname()[1]
        self.asked: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536))
                connection.sendall(self._answer)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server() -> Iterator:
    started: list[Server] = []

    def start(answer: bytes) -> Server:
        started.append(Server(answer))
        return started[-1]

    yield start
    for each in started:
        each.close()


def jupyter(port: int, token: str = "t0ken", base_url: str = "/") -> Jupyter:
    return Jupyter(port, "127.0.0.1", Secret(token), ADDRESS, base_url)


def ask_jupyter(jupyter: Jupyter) -> Probe:
    """Ask it where its plan says."""
    return ready.probe_jupyter(jupyter_door(jupyter))


# --- Jupyter ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n{}", True),
        (b"HTTP/1.0 200 OK\r\n", True),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", False),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n", False),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\n", False),
        (b"HTTP/1.1 2000 What\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"", False),
        (b"\xff" * 100_000, False),
    ],
)
def test_only_200_is_ready(server, answer: bytes, is_ready: bool) -> None:
    probe = ask_jupyter(jupyter(server(answer).port))
    assert (probe.service, probe.ready) == ("jupyter", is_ready)
    assert probe.detail
    assert len(probe.detail) < 1000


@pytest.mark.parametrize(
    ("token", "query", "header"),
    [
        ("a b&é", b"", b"Authorization: token a b&\xe9\r\n"),  # as tornado reads it
        ("a b&日", b"?token=a%20b%26%E6%97%A5", b""),  # what no header can carry
    ],
)
def test_it_asks_with_the_token_that_is_printed(
    server, token: str, query: bytes, header: bytes
) -> None:
    """In a header, for Jupyter logs the URL of a request that fails."""
    asked_of = server(b"HTTP/1.1 200 OK\r\n\r\n")
    ask_jupyter(jupyter(asked_of.port, token=token, base_url="/user/me/"))
    line, _, headers = asked_of.asked[0].partition(b"\r\n")
    assert line == b"GET /user/me/api/status" + query + b" HTTP/1.0"
    assert headers == f"Host: localhost:{asked_of.port}\r\n".encode() + header + b"\r\n"


def test_nobody_on_the_port_is_not_ready() -> None:
    (port,) = free_ports(1)
    probe = ask_jupyter(jupyter(port))
    assert not probe.ready
    assert str(port) in probe.detail
    assert "refused" in probe.detail


def test_a_server_that_never_answers_is_given_up(monkeypatch) -> None:
    monkeypatch.setattr(ready, "_ANSWER_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        probe = ask_jupyter(jupyter(silent.getsockname()[1]))
    assert not probe.ready
    assert "timed out" in probe.detail


def test_a_server_that_drips_is_given_up_in_time(monkeypatch) -> None:
    """The limit is for the whole answer, and not for each byte."""
    monkeypatch.setattr(ready, "_ANSWER_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"H")
                    time.sleep(0.2)

        threading.Thread(target=drip, daemon=True).start()
        probe = ask_jupyter(jupyter(listening.getsockname()[1]))
    assert (probe.ready, "timed out" in probe.detail) == (False, True)


def test_under_a_hub_it_asks_without_a_token(server) -> None:
    asked_of = server(b"HTTP/1.1 200 OK\r\n\r\n")
    ours = replace(jupyter(asked_of.port, base_url="/user/me/"), hub=Hub("", mutual_tls=False))
    assert ask_jupyter(ours).ready
    assert asked_of.asked[0].split(b"\r\n")[0] == b"GET /user/me/api HTTP/1.0"


def test_a_server_that_answers_the_hub_alone_is_not_asked(server) -> None:
    deaf = server(b"")
    ours = replace(jupyter(deaf.port), hub=Hub("", mutual_tls=True))
    assert ask_jupyter(ours).ready
    assert deaf.asked == []
    (nobodys,) = free_ports(1)
    assert not ask_jupyter(replace(ours, port=nobodys)).ready


# --- SSH -------------------------------------------------------------------------------------


def ssh(port: int, host_key: str = HOST_KEY) -> Ssh:
    return Ssh(port, "127.0.0.1", "/usr/sbin/sshd", ADDRESS, "me", host_key, (), None, "")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """Run a real sshd; return its port and its host key."""
    if not Path("/usr/sbin/sshd").exists():
        pytest.skip("OpenSSH's server is not installed")
    state.prepare_sshd(0)
    directory = tmp_path_factory.mktemp("sshd")
    host_key = state.open_state(str(directory), [], login_key=False).host_key
    (port,) = free_ports(1)
    (directory / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/ssh_host_ed25519_key\n"
        "PidFile none\n"
    )
    log = directory / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", directory / "config"], stderr=output
        )
    wait_until(lambda: b"listening" in log.read_bytes(), log.read_text)
    yield port, host_key
    server.terminate()
    server.wait(10)


def test_a_handshake_with_the_printed_key_is_ready(sshd) -> None:
    port, host_key = sshd
    probe = ready.probe_sshd(ssh(port, host_key))
    assert (probe.service, probe.ready) == ("ssh", True), probe.detail


def test_another_server_on_the_port_is_not_ours(sshd) -> None:
    probe = ready.probe_sshd(ssh(sshd[0], HOST_KEY))
    assert not probe.ready
    assert "another SSH server" in probe.detail


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"", b"SSH-2.0-x\r\n"])
def test_who_speaks_no_ssh_is_not_ready(server, answer: bytes) -> None:
    probe = ready.probe_sshd(ssh(server(answer).port))
    assert not probe.ready
    assert "handshake" in probe.detail


def test_nobody_on_the_port_is_no_handshake() -> None:
    (port,) = free_ports(1)
    assert "refused" in ready.probe_sshd(ssh(port)).detail


def test_sshd_is_asked_for_its_version(sshd) -> None:
    assert ready.greeting_fault(SshDoor(sshd[0], "127.0.0.1")) is None
    assert ready.greeting_fault(SshDoor(sshd[0], "")) is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"Exceeded MaxStartups\r\n", "'Exceeded MaxStartups'"), (b"", "''"), (b"\0\x1b[2J\n", "x1b")],
)
def test_another_greeting_is_none(answer: bytes, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(answer)

        threading.Thread(target=greet, daemon=True).start()
        port = listening.getsockname()[1]
        fault = ready.greeting_fault(SshDoor(port, "127.0.0.1"))
    assert fault is not None
    assert fault.startswith(f"no greeting on port {port}: ")
    assert why in fault


def test_a_listener_that_says_nothing_is_stopped_or_full(monkeypatch) -> None:
    monkeypatch.setattr(ready, "_GREETING_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fault = ready.greeting_fault(SshDoor(silent.getsockname()[1], ""))
    assert fault is not None
    assert fault.endswith(": timed out")
