"""The kernel's interfaces and their addresses, asked as anybody may: no root, no iproute2.

rtnetlink(7), netlink(7): RTM_GETLINK and RTM_GETADDR; linux/if_link.h, linux/if_addr.h.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator

from launcher.model.network import Interface

_GETLINK, _GETADDR, _ERROR, _DONE = 18, 22, 2, 3
_REQUEST_DUMP = 0x1 | 0x300  # NLM_F_REQUEST, NLM_F_DUMP
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBi")  # struct ifaddrmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct rtattr
_IFNAME, _MTU = 3, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_UP, _RUNNING, _SLAVE = 0x1, 0x40, 0x800  # linux/if.h
_ENOUGH = 1 << 16  # bytes of one answer
_PATIENCE = 2.0  # seconds; the kernel answers at once

Message = tuple[int, bytes]


def read_interfaces() -> tuple[Interface, ...]:
    """Return the interfaces in the kernel's order.  Raises OSError where netlink is not there."""
    return parse_interfaces(_dump(_GETLINK), _dump(_GETADDR))


def parse_interfaces(links: bytes, addresses: bytes) -> tuple[Interface, ...]:
    """Put the two answers together."""
    found: dict[int, list[str]] = {}
    for kind, body in _messages(addresses):
        if kind == _GETADDR - 2 and len(body) >= _ADDRESS.size:  # RTM_NEWADDR
            family, _, _, _, index = _ADDRESS.unpack_from(body)
            parts = dict(_attributes(body[_ADDRESS.size :]))
            raw = parts.get(_IFA_LOCAL) or parts.get(_IFA_ADDRESS) or b""
            if len(raw) == {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family):
                found.setdefault(index, []).append(socket.inet_ntop(family, raw))
    return tuple(_interface(body, found) for kind, body in _messages(links) if kind == _GETLINK - 2)


def _interface(body: bytes, addresses: dict[int, list[str]]) -> Interface:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    parts = dict(_attributes(body[_LINK.size :]))
    return Interface(
        name=parts.get(_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        running=flags & (_UP | _RUNNING) == _UP | _RUNNING,
        mtu=int.from_bytes(parts.get(_MTU, b"\0"), byteorder=sys.byteorder),
        addresses=tuple(addresses.get(index, ())),
        enslaved=bool(flags & _SLAVE),
    )


def _dump(kind: int) -> bytes:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as link:
        link.settimeout(_PATIENCE)
        link.bind((0, 0))
        link.send(_HEADER.pack(_HEADER.size + _LINK.size, kind, _REQUEST_DUMP, 1, 0)
                  + bytes(_LINK.size))  # fmt: skip
        answer = b""
        while True:
            part = link.recv(_ENOUGH)
            answer += part
            kinds = [one for one, _ in _messages(part)]
            if _ERROR in kinds:
                raise OSError(f"netlink refuses to list interfaces ({os.strerror(1)})")
            if _DONE in kinds or not part:
                return answer


def _messages(data: bytes) -> Iterator[Message]:
    while len(data) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : length]
        data = data[(length + 3) & ~3 :]
