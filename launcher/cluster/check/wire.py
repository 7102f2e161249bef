"""Lines of JSON between nodes: bounded in size and time, and never more than values.

torch's own rendezvous loads pickles of whoever reaches its port; nothing here runs what it reads.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Mapping
from typing import Any, TypeVar

from launcher.model import codec

T = TypeVar("T")

# What reading a value raises where another program, or another version, wrote it.
NOT_WHAT_IT_SHOULD_BE = (ValueError, TypeError, KeyError, AttributeError, AssertionError)

_LONGEST = 1 << 18  # bytes of a message: the addresses of four thousand nodes
_CHUNK = 1 << 16

Message = Mapping[str, Any]


class Broken(Exception):
    """The other side is gone, silent or says something else; the reason is for people."""


class Line:
    """A connection on which messages come and go."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._kept = b""
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, message: Message, until: float) -> None:
        """Send one message.  Raises Broken.

        Args:
            until: CLOCK_MONOTONIC, seconds.
        """
        try:
            self.sock.settimeout(_left(until))
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except (OSError, TimeoutError) as err:
            raise Broken(_why(err)) from None

    def receive(self, until: float) -> Message:
        """Return the next message.  Raises Broken."""
        while (message := self.take()) is None:
            try:
                self.sock.settimeout(_left(until))
                self._add(self.sock.recv(_CHUNK))
            except (OSError, TimeoutError) as err:
                raise Broken(_why(err)) from None
        return message

    def _add(self, chunk: bytes) -> None:
        if not chunk:
            raise Broken("it hung up")
        self._kept += chunk

    def read_some(self) -> None:
        """Read what is there, after a selector said so.  Raises Broken."""
        try:
            self._add(self.sock.recv(_CHUNK))
        except OSError as err:
            raise Broken(_why(err)) from None

    def take(self) -> Message | None:
        """Return the next message that is there whole.  Raises Broken."""
        line, found, rest = self._kept.partition(b"\n")
        if len(line) > _LONGEST:
            raise Broken("it says more than a node would")
        if not found:
            return None
        self._kept = rest
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Broken("it is no node of a check: it says something else") from None
        if not isinstance(message, dict):
            raise Broken("it is no node of a check: it says something else")
        return message

    def close(self) -> None:
        self.sock.close()


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())


def _why(err: OSError) -> str:
    return "no answer in time" if isinstance(err, TimeoutError) else (err.strerror or str(err))


def encode(value: object) -> object:
    """Return a value of `facts` as a part of a message."""
    return json.loads(codec.to_json(value))


def decode(kind: type[T], data: object) -> T | None:
    """Return a part of a message as the value that it should be, or None where it is none."""
    try:
        return codec.from_json(kind, json.dumps(data))
    except NOT_WHAT_IT_SHOULD_BE:
        return None


def decode_all(kind: type[T], rows: object) -> tuple[T, ...]:
    """Return those of a list's parts that are what they should be."""
    found = (decode(kind, row) for row in rows) if isinstance(rows, list) else ()
    return tuple(one for one in found if one is not None)
