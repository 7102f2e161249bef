"""The engine's HTTP API, for what tests do a thousand times, ask many times a second, or wait for.

Tests start boxes with the command line that users type.  What they do to one that runs goes here
instead: a `docker` process costs fifty times what the answer does, and tests that wait beside each
other would be busy with asking.  What the engine itself can be made to wait for is not asked again
at all.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT = 120.0  # seconds
# Docker Engine API, "Attach to a container", "Stream format": [stream, 0, 0, 0, size × 4].
HEADER = 8
STDOUT, STDERR = 1, 2
CHUNK = 1 << 16


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
        return f"Error: {_message(body)}\n"
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


def act(engine: Path, name: str, what: str) -> None:
    """Do what `docker start`, `restart` or `kill` does: `what` is "start" or "kill?signal=HUP".

    Raises OSError where it cannot be done.
    """
    status, body = _ask("POST", engine, f"/containers/{name}/{what}")
    if status >= 300:
        raise OSError(f"{what} {name}: {_message(body)}")


class Executed(NamedTuple):
    """What came of a command in a container."""

    code: int
    stdout: bytes
    stderr: bytes


def execute(
    engine: Path,
    name: str,
    command: Sequence[str],
    *,
    user: str = "",
    env: Sequence[str] = (),
    stdin: bytes | None = None,
    timeout: float = TIMEOUT,
) -> Executed:
    """Do what `docker exec [-i] NAME COMMAND…` does, to its end.

    Raises TimeoutError where it has none within `timeout` seconds, OSError where the engine does
    not answer.
    """
    deadline = time.monotonic() + timeout
    asked = {"AttachStdin": stdin is not None, "AttachStdout": True, "AttachStderr": True,
             "Cmd": list(command), "Env": list(env), "User": user}  # fmt: skip
    status, body = _ask("POST", engine, f"/containers/{name}/exec", asked)
    if status != 201:
        return Executed(1, b"", f"Error response from daemon: {_message(body)}\n".encode())
    one = json.loads(body)["Id"]
    stream = _stream(engine, f"/exec/{one}/start", {"Detach": False, "Tty": False}, stdin, deadline)
    if isinstance(stream, str):
        return Executed(1, b"", f"Error response from daemon: {stream}\n".encode())
    found = json.loads(_ask("GET", engine, f"/exec/{one}/json")[1])
    while found["Running"]:  # its outputs are closed, and it is not reaped
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)
        found = json.loads(_ask("GET", engine, f"/exec/{one}/json")[1])
    return Executed(int(found["ExitCode"]), output_of(stream, STDOUT), output_of(stream, STDERR))


def without_headers(stream: bytes) -> bytes:
    """Return the output in `stream`, in which a header says the size of each part.

    >>> without_headers(bytes([1, 0, 0, 0, 0, 0, 0, 2]) + b"ab")
    b'ab'
    """
    return output_of(stream, STDOUT, STDERR)


def output_of(stream: bytes, *wanted: int) -> bytes:
    """Return what was written to the `wanted` of both outputs.

    >>> output_of(bytes([1, 0, 0, 0, 0, 0, 0, 2]) + b"ab", STDERR)
    b''
    """
    parts = []
    start = 0
    while start < len(stream):
        size = int.from_bytes(stream[start + 4 : start + HEADER], "big")
        if stream[start] in wanted:
            parts.append(stream[start + HEADER : start + HEADER + size])
        start += HEADER + size
    return b"".join(parts)


def _stream(
    engine: Path, path: str, body: object, stdin: bytes | None, deadline: float
) -> bytes | str:
    """POST, let the connection become the command's input and output; return all of its output.

    A message instead says why there is none.
    """
    sent = json.dumps(body).encode()
    head = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json",
            f"Content-Length: {len(sent)}", "Connection: Upgrade", "Upgrade: tcp")  # fmt: skip
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_left(deadline))
        connection.connect(str(engine))
        connection.sendall("\r\n".join((*head, "", "")).encode() + sent)
        received = b""
        while b"\r\n\r\n" not in received:
            if not (chunk := _received(connection, deadline)):
                raise OSError(f"the engine's answer to {path} broke off")
            received += chunk
        head_of_answer, _, stream = received.partition(b"\r\n\r\n")
        parts = [stream]
        accepted = head_of_answer.startswith(b"HTTP/1.1 101 ")
        if accepted and stdin is not None:
            # Not before: the engine forgets what it has read ahead.
            threading.Thread(target=_feed, args=(connection, stdin), daemon=True).start()
        if not accepted:
            connection.shutdown(socket.SHUT_WR)
        while chunk := _received(connection, deadline):
            parts.append(chunk)
    return b"".join(parts) if accepted else _message(b"".join(parts))


def _received(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    return connection.recv(CHUNK)


def _feed(connection: socket.socket, stdin: bytes) -> None:
    with suppress(OSError):  # it has ended without reading all of it
        connection.sendall(stdin)
        connection.shutdown(socket.SHUT_WR)


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _message(body: bytes) -> str:
    """Return what the engine says of a refusal."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError):
        return body.decode(errors="replace").strip()


def _ask(method: str, engine: Path, path: str, body: object = None) -> tuple[int, bytes]:
    connection = _Connection(engine)
    try:
        if body is None:
            connection.request(method, path)
        else:
            given = {"Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body), given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as err:
        raise OSError(f"the engine's answer to {path} broke off: {err!r}") from err
    finally:
        connection.close()
