"""Who listens on a port, as the kernel tells by sock_diag(7).

/proc/net/tcp says the same (Documentation/networking/proc_net_tcp) and is read where there is no
netlink; for it the kernel walks through all connections there could be, which takes milliseconds.

Connecting would leave a line in sshd's log each time (kex_exchange_identification).  And whoever
binds a port while its service is away gets its clients: the table says whose a listener is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator

from launcher.model.named_tuple import NamedTuple

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_EVERY = ("0" * 8, "0" * 32)

_SOCK_DIAG, _BY_FAMILY, _ERROR, _DONE = 4, 20, 2, 3  # a protocol of netlink(7), types of messages
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_TCP_LISTEN = 10
_HEADER, _REQUEST = struct.Struct("=IHHII"), struct.Struct("=BBBxI48x")
# struct inet_diag_msg: the family, port and address of our end, then whose the socket is.
_FOUND = struct.Struct("=Bxxx2s2x16s28x12xI4x")
_PATIENCE = 1.0  # seconds


class Listener(NamedTuple):
    """A socket that takes connections."""

    address: str  # as the table writes it: in hex, each word of four bytes as the CPU holds it
    port: int
    uid: int  # whose it is


def fault(port: int, listen: str = "", uid: int | None = None) -> str | None:
    """Return why a service does not take connections, or None where it does.

    Args:
        listen: its address; "" = every address.
        uid: whose it has to be; None = anybody's.
    """
    return fault_among(read_listeners(), port, listen, uid)


def fault_among(
    listeners: Iterable[Listener], port: int, listen: str = "", uid: int | None = None
) -> str | None:
    """Return what `fault` does, of these.  Pure."""
    wanted = (*_EVERY, _as_in_the_table(listen)) if listen else ()
    found = [
        each for each in listeners if each.port == port and (not wanted or each.address in wanted)
    ]
    if not found:
        return "does not listen"
    strangers = {each.uid for each in found} - {uid} if uid is not None else set()
    if strangers:
        return f"a program of uid {min(strangers)} listens on port {port} in its place: end it"
    return None


def read_listeners() -> list[Listener]:
    """Return every socket of this network that listens on TCP."""
    try:
        return [*_ask(socket.AF_INET), *_ask(socket.AF_INET6)]
    except OSError:  # gVisor, and filters that know no netlink
        return list(read_tables())


def _ask(family: int) -> Iterator[Listener]:
    """Yield those of one family.  Raises OSError where the kernel does not tell."""
    asked = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 1 << _TCP_LISTEN)
    length = _HEADER.size + len(asked)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.settimeout(_PATIENCE)
        kernel.send(_HEADER.pack(length, _BY_FAMILY, _DUMP, 0, 0) + asked)
        while True:
            said, at = kernel.recv(65536), 0
            while at + _HEADER.size <= len(said):
                size, kind, *_ = _HEADER.unpack_from(said, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("sock_diag refuses")
                _, port, address, uid = _FOUND.unpack_from(said, at + _HEADER.size)
                yield Listener(_in_words(address, family), int.from_bytes(port, "big"), uid)
                at += (size + 3) & ~3


def _in_words(address: bytes, family: int) -> str:
    words = struct.unpack("=4I", address)[: 1 if family == socket.AF_INET else 4]
    return "".join(f"{word:08X}" for word in words)


def read_tables() -> Iterator[Listener]:
    """Yield the same from /proc."""
    for table in _TABLES:
        try:
            with open(table, encoding="ascii") as lines:
                for line in lines:
                    _, local, _, state, _, _, _, uid, *_ = line.split()
                    if state == _LISTENING:
                        address, _, port = local.partition(":")
                        yield Listener(address, int(port, 16), int(uid))
        except OSError:
            continue


def _as_in_the_table(address: str) -> str:
    """Return an IP address as the kernel prints it.  Raises OSError where it is none."""
    packed = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    return "".join(f"{word:08X}" for word in struct.unpack(f"={len(packed) // 4}I", packed))
