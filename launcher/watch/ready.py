"""Ask the services whether they really answer.  The only module that imports paramiko.

A port that accepts is not a service that works: Jupyter must accept the very token that is
printed, and sshd must finish a handshake with the very host key whose fingerprint is shown.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from launcher.model.watch import JupyterDoor, Probe

if TYPE_CHECKING:
    from launcher.model.plan import Ssh

# Fifty kernels that start at once keep Jupyter, on two CPUs, from answering for over three seconds.
_ANSWER_TIMEOUT = 10.0  # seconds for one answer


def probe_jupyter(door: JupyterDoor) -> Probe:
    """Ask Jupyter how it is, with the token; anything but 200 is not ready.

    By hand, since http.client would stay in watch's memory (6 MB) for one request line.
    """
    if door.target is None:
        up = listens(door.port)
        return Probe("jupyter", up, "listens" if up else "does not listen")
    told = f"Authorization: {door.authorization.reveal()}\r\n" if door.authorization else ""
    request = f"GET {door.target.reveal()} HTTP/1.0\r\nHost: localhost:{door.port}\r\n{told}\r\n"
    try:
        with (
            _connect(door.listen, door.port) as plain,
            _encrypted(plain) if door.encrypted else plain as connection,
        ):
            connection.sendall(request.encode("latin-1"))
            status_line = connection.makefile("rb").readline(200).decode(errors="replace")
    except OSError as err:
        return Probe("jupyter", False, f"no answer on port {door.port}: {_reason(err)}")
    status = status_line.split()[1:2]
    if status == ["200"]:
        return Probe("jupyter", True, "answers")
    return Probe("jupyter", False, f"answered {status_line.strip() or 'nothing'!r}")


def probe_sshd(ssh: Ssh) -> Probe:
    """Complete an SSH handshake and compare the host key with the one we print.

    Costs 40 MB while it runs: call it in a child that exits.
    """
    import logging

    import paramiko

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # the reason is in the answer
    try:
        with _connect(ssh.listen, ssh.port) as connection:
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


def listens(port: int) -> bool:
    """Return whether somebody listens on the port, from the kernel's table.

    Connecting would leave a line in sshd's log each time (kex_exchange_identification).
    """
    wanted = f"{port:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as lines:
                for line in lines:
                    _, local, _, state, *_ = line.split()
                    if state == "0A" and local.endswith(f":{wanted}"):
                        return True
        except OSError:
            continue
    return False


def _connect(listen: str, port: int) -> socket.socket:
    return socket.create_connection((listen or "127.0.0.1", port), timeout=_ANSWER_TIMEOUT)


def _encrypted(connection: socket.socket) -> socket.socket:
    """Speak TLS with ourselves: whose certificate it is matters to those outside."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(connection)


def _reason(err: Exception) -> str:
    return getattr(err, "strerror", None) or str(err) or type(err).__name__
