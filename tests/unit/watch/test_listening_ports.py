"""Who listens on a port, and whose it is: the real table, and tables that are made up."""

from __future__ import annotations

import os
import socket

import pytest

from launcher.watch import listening_ports
from launcher.watch.listening_ports import Listener

V4, V6 = "0" * 8, "0" * 32
LOOPBACK, OTHER = "0100007F", "0500A8C0"  # 127.0.0.1, 192.168.0.5 on a little-endian CPU
ROOT, USER = 0, 1000
STRANGER = "a program of uid 1000 listens on port 22 in its place: end it"


@pytest.mark.parametrize(
    ("found", "listen", "fault"),
    [
        ([], "", "does not listen"),
        ([Listener(V4, 2222, ROOT)], "", "does not listen"),
        ([Listener(V4, 22, ROOT), Listener(V6, 22, ROOT)], "", None),
        ([Listener(V6, 22, ROOT)], "", None),
        ([Listener(V4, 22, USER)], "", STRANGER),
        # sshd has one family again, and somebody else the other.
        ([Listener(V4, 22, USER), Listener(V6, 22, ROOT)], "", STRANGER),
        ([Listener(LOOPBACK, 22, USER), Listener(V6, 22, ROOT)], "", STRANGER),
        ([Listener(LOOPBACK, 22, ROOT)], "127.0.0.1", None),
        ([Listener(LOOPBACK, 22, USER)], "127.0.0.1", STRANGER),
        # With the host's network another address is another's business.
        ([Listener(LOOPBACK, 22, ROOT), Listener(OTHER, 22, USER)], "127.0.0.1", None),
        ([Listener(OTHER, 22, ROOT)], "127.0.0.1", "does not listen"),
        ([Listener(V6, 22, USER)], "127.0.0.1", STRANGER),
    ],
)
def test_a_listener_has_to_be_whose_service_it_is(
    found: list[Listener], listen: str, fault: str | None
) -> None:
    assert listening_ports.fault_among(found, 22, listen, ROOT) == fault


def test_of_some_services_anybody_may_be_the_listener() -> None:
    assert listening_ports.fault_among([Listener(V4, 22, USER)], 22) is None


def test_netlink_and_the_tables_say_the_same() -> None:
    with socket.create_server(("127.3.2.1", 0)) as server:
        port = server.getsockname()[1]
        told = [one for one in listening_ports.read_listeners() if one.port == port]
        written = [one for one in listening_ports.read_tables() if one.port == port]
    assert told == written == [Listener("0102037F", port, os.geteuid())]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another")
def test_whose_it_is_is_told() -> None:
    os.seteuid(65534)
    try:
        server = socket.create_server(("127.0.0.1", 0))
    finally:
        os.seteuid(0)
    with server:
        port = server.getsockname()[1]
        assert [one.uid for one in listening_ports.read_listeners() if one.port == port] == [65534]


def test_without_netlink_the_tables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_ports, "_SOCK_DIAG", 255)  # no such protocol
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listening_ports.fault(server.getsockname()[1]) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_whoever_listens_is_seen_until_they_stop(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        server = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with server:
        port = server.getsockname()[1]
        for listen in ("", address):
            assert listening_ports.fault(port, listen, os.geteuid()) is None
            assert listening_ports.fault(port, listen, os.geteuid() + 1)
        assert listening_ports.fault(port, "127.9.9.9") == "does not listen"
    assert listening_ports.fault(port) == "does not listen"


def test_a_connection_is_not_a_listener() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, socket.create_connection(server.getsockname()) as client:
        assert listening_ports.fault(client.getsockname()[1]) == "does not listen"
