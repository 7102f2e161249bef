"""Tell the running supervisor something, through its control socket, which is root's."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import xmlrpc.client

from launcher.errors import BadSetting, StartFailed

PROGRAMS = ("jupyter", "sshd")
_LOGIN = b"launcher:launcher"  # supervisord.conf says why
_NOT_RUNNING = 70  # supervisor.xmlrpc.Faults
_BAD_NAME = 10
_TIMEOUT = 60.0  # seconds; supervisor stops what it is told to in its stopwaitsecs


def restart(run_dir: str, name: str) -> None:
    """Stop a program of the box and start it again; the others are not touched.

    Raises BadSetting where nothing can be told, StartFailed where it does not come up again.
    """
    supervisor = xmlrpc.client.ServerProxy(
        "http://localhost/RPC2", _Transport(f"{run_dir}/supervisor.sock")
    ).supervisor
    try:
        try:
            supervisor.stopProcess(f"box:{name}")
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                raise BadSetting(f"no {name} runs in this box; see: launcher banner") from None
            if fault.faultCode != _NOT_RUNNING:
                raise
        supervisor.startProcess(f"box:{name}")
    except (PermissionError, FileNotFoundError, ConnectionRefusedError):
        if os.geteuid() != 0:  # the box may be root's, in another directory
            raise BadSetting(f"only root may; try: sudo launcher restart {name}") from None
        raise BadSetting(f"no box runs here: nothing answers at {run_dir}") from None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as err:
        said = err.faultString if isinstance(err, xmlrpc.client.Fault) else err
        raise StartFailed(f"cannot restart {name}: {said}; its log: docker logs") from None


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over the socket in the file system."""

    def __init__(self, path: str) -> None:
        login = base64.b64encode(_LOGIN).decode()
        super().__init__(headers=[("Authorization", f"Basic {login}")])
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _Connection(self._path)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)
