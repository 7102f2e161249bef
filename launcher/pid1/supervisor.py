"""The child that becomes supervise: it imports supervisor while the plan is made."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from types import ModuleType

from launcher.process import init
from launcher.process.init import Init


class Supervisor:
    """The child that imports supervisor while the plan is made, then waits for the word."""

    def __init__(self, box: Init) -> None:
        reader, self._writer = os.pipe()
        me = os.getpid()
        self.pid = box.spawn(lambda: _supervise(me, reader, self._writer))
        os.close(reader)

    def go(self, run_dir: str) -> None:
        """Let it start the services, as the files in `run_dir` say."""
        with contextlib.suppress(BrokenPipeError):  # it has ended already: whoever waits is told
            os.write(self._writer, run_dir.encode())
        os.close(self._writer)


def _supervise(parent: int, go_reader: int, go_writer: int) -> int:
    os.close(go_writer)
    os.setpgid(0, 0)  # Ctrl-C is PID 1's to hear
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until supervisor hears it, no reason to end
    loop = _import_loop()
    gc.enable()
    run_dir = os.read(go_reader, 4096).decode()
    os.close(go_reader)
    return loop.supervise(run_dir, parent) if run_dir else 0


def _import_loop() -> ModuleType:
    from launcher.supervise.left_out import left_out  # in this process alone

    with left_out():
        from launcher.supervise import loop
    return loop


def describe_end(status: int) -> str:
    """Say how supervise ended, for people; memory as the reason where the kernel took it."""
    from launcher.detect import cgroup  # now that it is over

    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    why = f", {cgroup.reason()}" if killed and cgroup.kills() else ""
    return f"{init.describe_end(status)}{why}"
