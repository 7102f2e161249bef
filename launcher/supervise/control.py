"""Tell the running supervisor something, through its control socket, which is root's."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import signal
import socket
import time
import xmlrpc.client
from collections.abc import Iterable

from launcher.box import privilege
from launcher.box import run_dir as boxes
from launcher.model import run_files, services
from launcher.model.errors import BadSetting, StartFailed
from launcher.supervise import programs

_NOT_OFFERED = ("watch", "post_start")  # the launcher's own
_MENDS_HEALTH = ("watch", "restart")  # where "watch has stopped"
_LOGIN = b"launcher:launcher"  # supervisord.conf says why
_AS_IT_IS = (60, 70)  # supervisor.xmlrpc.Faults: ALREADY_STARTED, NOT_RUNNING
_BAD_NAME = 10
_ENDED_AT_ONCE = (40, 50)  # ABNORMAL_TERMINATION, SPAWN_ERROR
_RELOAD_TIMEOUT = 10.0  # seconds
_TIMEOUT = 60.0  # seconds; supervisor stops what it is told to in its stopwaitsecs


def tell(run_dir: str, action: str, asked: str) -> None:
    """Start or stop a program of the box, or both; the others are not touched.

    Args:
        action: "start", "stop" or "restart".

    Raises BadSetting where nothing can be told or nothing is called so, StartFailed where it
    cannot be done.
    """
    known = programs.read_programs(run_dir)
    name = services.program_of(asked)
    ours = name in _NOT_OFFERED and (name, action) != _MENDS_HEALTH
    if known and (name not in known or ours):
        raise BadSetting(f"no {asked} runs in this box; there are: {', '.join(offered(known))}")
    group = known[name].group if known else services.GROUP
    program = f"{group}:{name.removeprefix(f'{group}:')}"
    supervisor = xmlrpc.client.ServerProxy(
        "http://localhost/RPC2", _Transport(f"{run_dir}/{run_files.SUPERVISOR_SOCKET}")
    ).supervisor
    calls = {"start": ("startProcess",), "stop": ("stopProcess",)}
    try:
        for call in calls.get(action, ("stopProcess", "startProcess")):
            try:
                getattr(supervisor, call)(program)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == _BAD_NAME:
                    raise BadSetting(f"no {asked} runs in this box") from None
                if fault.faultCode not in _AS_IT_IS:
                    raise
    except (PermissionError, FileNotFoundError, ConnectionRefusedError):
        if os.geteuid() != 0:  # the box may be root's, in another directory
            raise privilege.only_root(f"{action} {asked}") from None
        why = f"nothing answers at {run_dir}{privilege.of_another()}"
        raise BadSetting(f"no box runs here: {why}") from None
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as err:
        said: object = err
        if isinstance(err, xmlrpc.client.Fault):
            at_once = err.faultCode in _ENDED_AT_ONCE
            said = "it ended at once, and is tried again" if at_once else err.faultString
        raise StartFailed(f"cannot {action} {asked}: {said}; launcher logs {asked}") from None


def reload(run_dir: str) -> None:
    """Let PID 1 read keys and configuration again, as HUP does, and wait until it has.

    Raises BadSetting where no box runs or we may not tell it, StartFailed where it did not.
    """
    plan = f"{run_dir}/{run_files.PLAN}"
    try:
        before = os.stat(plan).st_ino
        boxes.tell_init(run_dir, signal.SIGHUP)
    except PermissionError:
        raise privilege.only_root("reload") from None
    except (OSError, ValueError):
        why = f"{run_dir} has no supervisor{privilege.of_another()}"
        raise BadSetting(f"no box runs here: {why}") from None
    deadline = time.monotonic() + _RELOAD_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if os.stat(plan).st_ino != before:  # it is written whole, and renamed
                return
        time.sleep(0.05)
    raise StartFailed("not reloaded, everything stays as it was; the box's log says why")


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
