"""Who is in a box, and how much room it has: what metrics tell besides its health."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Mapping, Sequence

from launcher.model.watch import JupyterDoor
from launcher.process import tree
from launcher.process.fork import fork_to_answer, write_all
from launcher.watch import idle, ready

_PATIENCE = 2.0  # seconds for all file systems: one on a network may hang


def people() -> int:
    """Return how many sessions there are, by SSH or by a terminal of the engine's."""
    return sum(1 for _ in idle.people())


def kernels(door: JupyterDoor) -> int | None:
    """Return how many kernels Jupyter has; None where it does not tell."""
    status = ready.ask_jupyter(door, "status")
    count = status.get("kernels") if isinstance(status, dict) else None
    return count if isinstance(count, int) else None


def room(paths: Sequence[str], patience: float = _PATIENCE) -> Mapping[str, Mapping[str, int]]:
    """Return {path: {"free": bytes, "size": bytes}} of the file systems that answer in time.

    In a child, which is left behind where the kernel holds it.
    """

    def look(writer: int) -> int:
        for path in paths:
            try:
                told = os.statvfs(path)
            except OSError:
                continue
            unit = told.f_frsize
            found = {path: {"free": told.f_bavail * unit, "size": told.f_blocks * unit}}
            write_all(writer, json.dumps(found).encode() + b"\n")
        return 0

    pid, reader = fork_to_answer(look)
    until, said = time.monotonic() + patience, b""
    try:
        while (left := until - time.monotonic()) > 0 and select.select([reader], [], [], left)[0]:
            chunk = os.read(reader, 65536)
            if not chunk:
                break
            said += chunk
    finally:
        os.close(reader)
        tree.kill(pid, signal.SIGKILL)
        idle.reap(pid)
    found: dict[str, Mapping[str, int]] = {}
    for line in said.splitlines():
        found |= json.loads(line)
    return found
