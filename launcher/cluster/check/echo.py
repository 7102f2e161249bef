"""Every node connects to the others on ports of their own, and sends 64 KiB there and back.

NCCL and gloo take random ports, which the master's may be open without; and what is larger than a
packet of the way shows an MTU that does not fit.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from launcher.cluster.check.facts import Pair

BYTES = 1 << 16
_EVERY = 64  # nodes up to which each tries all others
LONGEST = 15.0  # seconds at most for all of them
_AT_ONCE = 16  # connections of one node
_ONE_TRY = 3.0  # seconds
_SERVED = 256  # connections that a node answers at once

Peer = tuple[int, str, int]  # rank, address, port


class Echo:
    """Sends back what comes, on a port of the kernel's choice, until it is closed."""

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._server = socket.create_server(("", 0), family=family, backlog=1024)
        self._turns = threading.Semaphore(_SERVED)
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._server.accept()
                self._turns.acquire()
                threading.Thread(target=self._answer, args=(caller,), daemon=True).start()

    def _answer(self, caller: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError), caller:
                caller.settimeout(_ONE_TRY)
                caller.sendall(_receive(caller))
        finally:
            self._turns.release()


def partners(rank: int, nodes: int) -> tuple[int, ...]:
    """Return the nodes that one tries: all, or in a large job those 1, 2, 4, 8 … further on.

    So n·log₂n connections, and a node that is cut off still fails in every one.
    """
    if nodes <= _EVERY:
        return tuple(other for other in range(nodes) if other != rank)
    steps = (1 << power for power in range(nodes.bit_length()) if 1 << power < nodes)
    return tuple(sorted({(rank + step) % nodes for step in steps}))


def try_partners(
    rank: int, nodes: int, peers: Sequence[Sequence[object]], seconds: float
) -> tuple[Pair, ...]:
    """Connect to those nodes that are this one's to try, of those that came.

    Args:
        peers: rank, address and port of each; 0 where a node could open none.
    """
    doors = {int(str(peer[0])): (str(peer[1]), int(str(peer[2]))) for peer in peers}
    wanted = [other for other in partners(rank, nodes) if other in doors]
    closed = tuple(Pair(rank, o, None, "it opened no port") for o in wanted if not doors[o][1])
    there = [(other, *doors[other]) for other in wanted if doors[other][1]]
    return (*try_peers(rank, there, time.monotonic() + seconds), *closed)


def try_peers(rank: int, peers: Sequence[Peer], until: float) -> tuple[Pair, ...]:
    """Connect to each of them, some at once; what is not tried in time failed."""

    def one(peer: Peer) -> Pair:
        other, address, port = peer
        left = min(_ONE_TRY, until - time.monotonic())
        if left <= 0:
            return Pair(rank, other, None, "there was no time left")
        return _try(rank, other, (address, port), left)

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        return tuple(pool.map(one, peers))


def _try(rank: int, other: int, address: tuple[str, int], seconds: float) -> Pair:
    began = time.monotonic()
    connected = False
    try:
        with socket.create_connection(address, timeout=seconds) as link:
            connected = True
            took = time.monotonic() - began
            for block in _blocks():
                link.sendall(block)
            if len(_receive(link)) == BYTES:
                return Pair(rank, other, took)
            return Pair(rank, other, None, "64 KiB did not come back")
    except TimeoutError:
        why = "64 KiB did not come back" if connected else "nothing comes back"
        return Pair(rank, other, None, why)
    except OSError as err:
        return Pair(rank, other, None, err.strerror or str(err))
    except (ValueError, OverflowError):  # what no address is, and no port
        return Pair(rank, other, None, "it opened its port nowhere")


def _blocks() -> Iterator[bytes]:
    yield from (bytes(1 << 14) for _ in range(BYTES >> 14))


def _receive(link: socket.socket) -> bytes:
    got = b""
    while len(got) < BYTES and (chunk := link.recv(BYTES - len(got))):
        got += chunk
    return got
