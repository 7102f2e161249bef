"""Choose ports that nobody listens on."""

from __future__ import annotations

import socket
from collections.abc import Collection


def first_free(first: int, *, address: str, taken: Collection[int] = ()) -> int:
    """Return the first port from `first` on that can be listened on at `address` now."""
    for port in range(first, min(first + 1000, 65536)):
        if port not in taken and _is_free(port, address):
            return port
    raise OSError(f"no free port from {first} to {first + 999}")


def _is_free(port: int, address: str) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection that is closing does not keep the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError:
            return False
        return True
