"""Who listens on a port, from the kernel's table (Documentation/networking/proc_net_tcp).

Connecting would leave a line in sshd's log each time (kex_exchange_identification).  And whoever
binds a port while its service is away gets its clients: the table says whose a listener is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_EVERY = ("0" * 8, "0" * 32)


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


def read_listeners() -> Iterator[Listener]:
    """Yield every socket of this network that listens on TCP."""
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
