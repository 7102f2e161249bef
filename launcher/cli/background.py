"""`launcher start --background`: the box, where somebody else is the container's first process.

Dev Containers, pyxis and some clouds put a program of theirs in the place of the entrypoint.
"""

from __future__ import annotations

import contextlib
import os
import time

from launcher.model import run_files
from launcher.model.errors import BadSetting, StartFailed
from launcher.process.fork import fork
from launcher.process.init import exit_code
from launcher.settings import load

_LOOK = 0.1  # seconds between two looks


def start_box() -> int:
    """Start the box apart from this terminal; return once it has printed its banner.

    Raises BadSetting where one runs, and StartFailed where the new one ends before its banner.
    """
    settings = load.load_settings()
    banner = f"{settings.run_dir}/{run_files.BANNER}"
    from launcher.watch import health

    if health.read_health(settings.run_dir) and not health.check_health(settings.run_dir):
        raise BadSetting("a box runs here already: launcher status")
    with contextlib.suppress(OSError):
        os.unlink(banner)
    pid = fork(_be_the_box)
    deadline = time.monotonic() + settings.ready_timeout + settings.detect_timeout
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            raise StartFailed(
                f"the box ended with {exit_code(status)} before it was ready; "
                "to see why: launcher start"
            )
        if os.path.exists(banner):
            print("launcher: the box runs; its URL: launcher url")
            return 0
        time.sleep(_LOOK)
    print("launcher: the box has started and is not ready yet: launcher status")
    return 0


def _be_the_box() -> int:
    """In a session of its own, with the container's log for its output where that may be had."""
    from launcher.pid1 import boot

    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    try:
        log = os.open("/proc/1/fd/1", os.O_WRONLY | os.O_NOCTTY)
    except OSError:  # another user's; `launcher logs` has what the services say
        log = null
    for number, target in enumerate((null, log, log)):
        os.dup2(target, number)
    return boot.be_the_box((), time.monotonic())
