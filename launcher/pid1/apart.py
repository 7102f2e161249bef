"""Several boxes of one user who is not root, on one machine: each has its files and its ports.

Apptainer, Slurm and `--network host` share /tmp and the ports of a node among all who work there.
"""

from __future__ import annotations

import socket
from pathlib import Path

from launcher.box import run_dir
from launcher.detect.detect import listening_ports
from launcher.model.errors import BadSetting
from launcher.settings import folders
from launcher.settings.table import Settings

_MOST = 100  # boxes of one user, and ports that are tried
_RESERVED: list[socket.socket] = []  # as long as this box lives
_PORTS = (("JUPYTER_PORT", "jupyter_port", "Jupyter"), ("SSH_PORT", "ssh_port", "SSH"))


def stand_apart(settings: Settings) -> tuple[dict[str, str], list[str]]:
    """Take a run directory that no other box has, and free ports where nobody asked for some.

    Returns the variables that say so, none where everything is as usual, and what to say of it.
    Raises BadSetting where a box runs in this very container, or no directory is free.
    """
    chosen: dict[str, str] = {}
    said: list[str] = []
    mine = _claim(settings.run_dir)
    if mine != settings.run_dir:
        chosen["LAUNCHER_RUN_DIR"] = mine
        said.append(
            f"another box of yours has {settings.run_dir}: this one's files are in {mine} "
            f"(to ask it: LAUNCHER_RUN_DIR={mine} launcher url)"
        )
    busy = set(listening_ports(Path("/")))
    for variable, field, what in _PORTS:
        port = int(getattr(settings, field))
        if field in settings.given or "JUPYTERHUB_SERVICE_URL" in settings.environ:
            busy.add(port)
            continue
        tried = (one for one in range(port, port + _MOST) if one not in busy)
        free = next(filter(_reserve, tried), port)
        busy.add(free)
        if free != port:
            chosen[variable] = str(free)
            said.append(f"port {port} is in use here: {what} is on port {free}")
    return chosen, said


def _reserve(port: int) -> bool:
    """Keep a port from boxes that start now, while none of the two listens yet.

    A name in the network's own namespace (unix(7), "Abstract sockets") ends with who holds it.
    """
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0launcher-port-{port}")
    except OSError:
        name.close()
        return False
    _RESERVED.append(name)
    return True


def _claim(directory: str) -> str:
    """Return the first directory of this name, or of it and a number, that no box has."""
    for number in range(1, _MOST):
        path = directory if number == 1 else f"{directory}-{number}"
        if number > 1 and not folders.is_mine_or_nobodys(path):
            continue
        try:
            run_dir.claim(path)
        except BadSetting:
            if folders.is_of_this_container(path):
                raise
            continue
        return path
    raise BadSetting(f"{_MOST} boxes run in {directory} and beside it: set LAUNCHER_RUN_DIR")
