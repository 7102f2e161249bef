"""The engine's HTTP API, for what is asked many times a second, or waited for.

Tests drive the engine with the command line that users type.  A question that is repeated until
something holds goes here instead: a `docker` process costs fifty times what the answer does, and
tests that wait beside each other would be busy with asking.  What the engine itself can be made to
wait for is not asked again at all.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any

TIMEOUT = 120.0  # seconds
# Docker Engine API, "Attach to a container", "Stream format": [stream, 0, 0, 0, size × 4].
HEADER = 8


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def inspect(engine: Path, name: str) -> dict[str, Any] | None:
    """Return what `docker inspect NAME` shows, or None where there is no such container.

    Raises OSError where the engine does not answer.
    """
    status, body = _ask("GET", engine, f"/containers/{name}/json")
    found: dict[str, Any] | None = json.loads(body) if status == 200 else None
    return found


def logs(engine: Path, name: str, *, terminal: bool) -> str:
    """Return what `docker logs NAME` shows, both streams in the order they were written.

    Raises OSError where the engine does not answer.
    """
    status, body = _ask("GET", engine, f"/containers/{name}/logs?stdout=1&stderr=1")
    if status != 200:
        return f"Error: {json.loads(body)['message']}\n"
    return (body if terminal else without_headers(body)).decode(errors="replace")


def wait(engine: Path, name: str, timeout: float) -> bool:
    """Wait until the container does not run; return False where it still does after `timeout`.

    Raises OSError where the engine does not answer.
    """
    connection = _Connection(engine)
    connection.timeout = timeout
    try:
        connection.request("POST", f"/containers/{name}/wait")
        connection.getresponse().read()
    except TimeoutError:
        return False
    finally:
        connection.close()
    return True


def remove(engine: Path, name: str) -> None:
    """Do what `docker rm --force --volumes NAME` does; it may be gone.

    Raises OSError where the engine does not answer.
    """
    _ask("DELETE", engine, f"/containers/{name}?force=1&v=1")


def without_headers(stream: bytes) -> bytes:
    """Return the output in `stream`, in which a header says the size of each part.

    >>> without_headers(bytes([1, 0, 0, 0, 0, 0, 0, 2]) + b"ab")
    b'ab'
    """
    parts = []
    start = 0
    while start < len(stream):
        size = int.from_bytes(stream[start + 4 : start + HEADER], "big")
        parts.append(stream[start + HEADER : start + HEADER + size])
        start += HEADER + size
    return b"".join(parts)


def _ask(method: str, engine: Path, path: str) -> tuple[int, bytes]:
    connection = _Connection(engine)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as err:
        raise OSError(f"the engine's answer to {path} broke off: {err!r}") from err
    finally:
        connection.close()
