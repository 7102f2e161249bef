"""Ask the services whether they really answer.  The only module that imports paramiko.

A port that accepts is not a service that works: Jupyter must accept the very token that is
printed, and sshd must finish a handshake with the very host key whose fingerprint is shown.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from launcher.model.watch import WATCH_ADDRESS, JupyterDoor, Probe, SshDoor
from launcher.watch import listening_ports

if TYPE_CHECKING:
    from launcher.model.plan import Ssh

# Fifty kernels that start at once keep Jupyter, on two CPUs, from answering for over three seconds.
_ANSWER_TIMEOUT = 10.0  # seconds for one answer
_LARGEST_ANSWER = 1 << 20  # bytes
_GREETING_TIMEOUT = 4.0  # seconds, for what waits for nobody else


def probe_jupyter(door: JupyterDoor) -> Probe:
    """Ask Jupyter how it is, with the token; anything but 200 is not ready.

    By hand, since http.client would stay in watch's memory (6 MB) for one request line.
    """
    if door.target is None:
        fault = listening_ports.fault(door.port)
        return Probe("jupyter", fault is None, fault or "listens")
    deadline = time.monotonic() + _ANSWER_TIMEOUT
    try:
        with _asked(door, door.target.reveal()) as connection:
            status_line = _first_line(connection, deadline).decode(errors="replace")
    except OSError as err:
        return Probe("jupyter", False, f"no answer on port {door.port}: {_reason(err)}")
    status = status_line.split()[1:2]
    if status == ["200"]:
        return Probe("jupyter", True, "answers")
    return Probe("jupyter", False, f"answered {status_line.strip() or 'nothing'!r}")


def ask_jupyter(door: JupyterDoor, about: str) -> object:
    """Return the JSON that Jupyter's REST interface answers below api/, or None without one.

    Args:
        about: "kernels" or "status".
    """
    target = door.target.reveal() if door.target else ""
    base, api, query = target.rpartition("api/status")
    if not api:  # a hub's
        return None
    deadline, answer = time.monotonic() + _ANSWER_TIMEOUT, b""
    try:
        # Else Jupyter takes the question itself for somebody's use (update_api_activity).
        query = f"{query or '?'}{'&' if query else ''}no_track_activity=1"
        with _asked(door, f"{base}api/{about}{query}") as connection:
            while len(answer) < _LARGEST_ANSWER and (left := deadline - time.monotonic()) > 0:
                connection.settimeout(left)
                chunk = connection.recv(65536)
                if not chunk:
                    break
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        return json.loads(body) if head.split(b" ")[1:2] == [b"200"] else None
    except (OSError, ValueError, RecursionError):
        return None


@contextlib.contextmanager
def _asked(door: JupyterDoor, target: str) -> Iterator[socket.socket]:
    """Send Jupyter a request.  Raises OSError."""
    told = f"Authorization: {door.authorization.reveal()}\r\n" if door.authorization else ""
    request = f"GET {target} HTTP/1.0\r\nHost: localhost:{door.port}\r\n{told}\r\n"
    with (
        _connect(door.listen, door.port) as plain,
        _encrypted(plain) if door.encrypted else plain as connection,
    ):
        connection.sendall(request.encode("latin-1"))
        yield connection


def probe_sshd(ssh: Ssh) -> Probe:
    """Complete an SSH handshake and compare the host key with the one we print.

    Costs 40 MB while it runs: call it in a child that exits.
    """
    import logging

    import paramiko

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # the reason is in the answer
    try:
        with _connect(ssh.listen, ssh.port, source=WATCH_ADDRESS) as connection:
            transport = paramiko.Transport(connection)
            try:
                transport.start_client(timeout=_ANSWER_TIMEOUT)
                offered = transport.get_remote_server_key()
            finally:
                transport.close()
    except (OSError, EOFError, RuntimeError, paramiko.SSHException) as err:  # no more threads
        return Probe("ssh", False, f"no handshake on port {ssh.port}: {_reason(err)}")
    from launcher.model.public_key import key_blob  # here, in the child: watch stays small

    if offered.asbytes() != key_blob(ssh.host_key):
        return Probe("ssh", False, f"another SSH server answers on port {ssh.port}")
    return Probe("ssh", True, "answers")


def greeting_fault(door: SshDoor) -> str | None:
    """Return why sshd does not say its version (RFC 4253, section 4.2), or None where it does.

    A server that is stopped, or has no room for one more, listens all the same.
    """
    try:
        with _connect(door.listen, door.port, _GREETING_TIMEOUT, WATCH_ADDRESS) as connection:
            line = _first_line(connection, time.monotonic() + _GREETING_TIMEOUT)
            if line.startswith(b"SSH-"):
                connection.sendall(b"SSH-2.0-launcher\r\n")  # else a line without our address
                return None
    except OSError as err:
        return f"no greeting on port {door.port}: {_reason(err)}"
    return f"no greeting on port {door.port}: {line.strip().decode(errors='replace')!r}"


def supervise_fault(path: str) -> str | None:
    """Return why supervise does not answer at its socket, or None where it does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_GREETING_TIMEOUT)
            connection.connect(path)
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answered = connection.recv(1)
    except OSError as err:
        return f"it does not answer: {_reason(err)}"
    return None if answered else "it does not answer"


def _first_line(connection: socket.socket, deadline: float) -> bytes:
    """Return what comes until the first line ends, of which a peer may send a byte at a time.

    Raises TimeoutError at the deadline: CLOCK_MONOTONIC, seconds.
    """
    line = b""
    while b"\n" not in line and len(line) < 200:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        chunk = connection.recv(200)
        if not chunk:
            break
        line += chunk
    return line.partition(b"\n")[0]


def _connect(
    listen: str, port: int, timeout: float = _ANSWER_TIMEOUT, source: str = ""
) -> socket.socket:
    """Connect to where a service listens.

    Args:
        source: our own address, where it is IPv4 that we speak.
    """
    address = listen or "127.0.0.1"
    own = (source, 0) if source and ":" not in address else None
    return socket.create_connection((address, port), timeout, own)


def _encrypted(connection: socket.socket) -> socket.socket:
    """Speak TLS with ourselves: whose certificate it is matters to those outside."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def _reason(err: Exception) -> str:
    return getattr(err, "strerror", None) or str(err) or type(err).__name__
