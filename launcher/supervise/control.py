"""Tell the running supervisor something, through its control socket, which is root's."""

from __future__ import annotations

import base64
import http.client
import os
import socket
import xmlrpc.client
from collections.abc import Iterable

from launcher.model import run_files, services
from launcher.model.errors import BadSetting, StartFailed
from launcher.supervise import programs

_NOT_OFFERED = ("watch", "post_start")  # the launcher's own
_LOGIN = b"launcher:launcher"  # supervisord.conf says why
_NOT_RUNNING = 70  # supervisor.xmlrpc.Faults
_BAD_NAME = 10
_ENDED_AT_ONCE = (40, 50)  # ABNORMAL_TERMINATION, SPAWN_ERROR
_TIMEOUT = 60.0  # seconds; supervisor stops what it is told to in its stopwaitsecs


def restart(run_dir: str, asked: str) -> None:
    """Stop a program of the box and start it again; the others are not touched.

    Raises BadSetting where nothing can be told or nothing is called so, StartFailed where it does
    not come up again.
    """
    known = programs.read_programs(run_dir)
    name = services.program_of(asked)
    if known and (name not in known or name in _NOT_OFFERED):
        raise BadSetting(f"no {asked} runs in this box; there are: {', '.join(offered(known))}")
    group = known[name].group if known else services.GROUP
    program = f"{group}:{name.removeprefix(f'{group}:')}"
    supervisor = xmlrpc.client.ServerProxy(
        "http://localhost/RPC2", _Transport(f"{run_dir}/{run_files.SUPERVISOR_SOCKET}")
    ).supervisor
    try:
        try:
            supervisor.stopProcess(program)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                raise BadSetting(f"no {asked} runs in this box") from None
            if fault.faultCode != _NOT_RUNNING:
                raise
        supervisor.startProcess(program)
    except (PermissionError, FileNotFoundError, ConnectionRefusedError):
        if os.geteuid() != 0:  # the box may be root's, in another directory
            raise BadSetting(f"only root may; try: sudo launcher restart {asked}") from None
        raise BadSetting(f"no box runs here: nothing answers at {run_dir}") from None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as err:
        said: object = err
        if isinstance(err, xmlrpc.client.Fault):
            at_once = err.faultCode in _ENDED_AT_ONCE
            said = "it ended at once, and is tried again" if at_once else err.faultString
        raise StartFailed(f"cannot restart {asked}: {said}; what it said: docker logs") from None


def offered(known: Iterable[str]) -> list[str]:
    """Return what people may restart, by the names they call it."""
    return [services.service_of(name) for name in known if name not in _NOT_OFFERED]


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
