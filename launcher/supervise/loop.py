"""Supervisor as a library, in our own process: the loop.

What stock supervisord does otherwise, and we cannot use: it waits a second before its first
spawn and up to a second on a signal; it blocks on a log that nobody reads; it stays up, or
exits 0, when a program is FATAL; it starts what has ended again at once, for ever; a clock that
is set confuses it.  supervisor is pinned exactly, and a test fails if the internals that are
subclassed here, in `options`, `program` and `output`, move.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

from supervisor import poller
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from launcher.box import files
from launcher.model import codec, run_files
from launcher.model.errors import BadSetting, LauncherError
from launcher.model.plan import RenderedFile, Supervision
from launcher.model.services import GROUP
from launcher.process import become
from launcher.process.pump import Pump
from launcher.settings import environ
from launcher.supervise import drop_ins, programs
from launcher.supervise.drop_ins import FOLDER
from launcher.supervise.options import BoxOptions
from launcher.supervise.programs import Program
from launcher.supervise.said import Log

# Beside ours in our image, beside the package in a checkout, with the wheel in anybody's.
_CONFIGURATIONS = (
    "/etc/launcher/supervisord.conf",
    os.path.join(sys.prefix, "share", "pytorch-cuda-launcher", "supervisord.conf"),
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "supervisord.conf"),
)
_SHORTEST_WAIT = 0.01  # seconds, so that nothing makes the loop spin
_MEMORY_LOOK = 1.0  # seconds


def supervise(run_dir: str, parent: int) -> int:
    """Supervise until told to stop, or until `parent` is gone: what no container ends, we do.

    Returns 0; 70 after a required program failed for good; 78 where a file of supervisor.d
    cannot be used.
    """
    supervision = _read_supervision(run_dir)
    environ.replace({"PATH": become.launcher_path(), "LAUNCHER_RUN_DIR": run_dir})
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a client that hangs up must not end the box
    pump = Log(1)
    # Those of supervisord.conf that are to run: the others are not wanted here.
    planned = {name.removesuffix(".json") for name in os.listdir(f"{run_dir}/{run_files.SERVICES}")}
    options = BoxOptions(run_dir, planned | {"watch"}, supervision, pump)
    options.poller = BoxPoller(options)
    supervisor = BoxSupervisor(options)
    supervisor.parent = parent
    options.poller.due = supervisor.due
    if supervision.safe_mode and os.path.isdir(FOLDER) and os.listdir(FOLDER):
        pump.say(f"launcher: safe mode: no program of {FOLDER} is started")
    try:
        drop_ins.check_drop_ins(supervision)
        options.realize(["-c", next(path for path in _CONFIGURATIONS if os.path.exists(path))])
        options.first, options.test = True, False
        with contextlib.suppress(asyncore.ExitNow):
            supervisor.main()
    except LauncherError as err:
        for line in options.fitted(str(err)).splitlines():
            pump.say(f"launcher: {line}")
        options.exit_code = err.exit_code
    options.close_httpservers()
    pump.flush(timeout=0.3)
    return options.exit_code


def _read_supervision(run_dir: str) -> Supervision:
    try:
        with open(f"{run_dir}/{run_files.SUPERVISION}", encoding="utf-8") as stream:
            return codec.from_json(Supervision, stream.read())
    except (OSError, ValueError, TypeError, KeyError):
        return Supervision()


class BoxPoller(poller.PollPoller):  # type: ignore[misc]
    """Polls at once the first time, wakes on signals and in time, and drains the pump."""

    due: Callable[[], float] = staticmethod(lambda: 1.0)  # in how many seconds it is to wake

    def initialize(self) -> None:
        super().initialize()
        self._first = True
        self._wake, writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._poller.register(self._wake, self.READ)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        pump: Pump = self.options.pump
        if pump.pending():
            self._poller.register(pump.fd, self.WRITE)
        wait = max(_SHORTEST_WAIT, min(timeout, self.due()))
        readable, writable = super().poll(0 if self._first else wait)
        self._first = False
        if pump.pending():
            self._poller.unregister(pump.fd)
            pump.flush()
        if self._wake in readable:
            os.read(self._wake, 4096)
        own = (self._wake, pump.fd)
        return [fd for fd in readable if fd not in own], [fd for fd in writable if fd not in own]


class BoxSupervisor(Supervisor):  # type: ignore[misc]
    """The loop: what each turn of it does besides supervisor's."""

    parent: int | None = None  # pid of what started the box, and ends with it

    def due(self) -> float:
        """Return in how many seconds the poller is to wake at the latest."""
        return min((process.due() for process in self._processes()), default=1)

    def ordered_stop_groups_phase_1(self) -> None:
        """Tell all groups to stop at once: one after the other takes more than Docker gives."""
        for group in self.stop_groups:
            group.stop_all()

    def tick(self, now: float | None = None) -> None:
        super().tick(now)
        if self.parent and os.getppid() != self.parent:
            self.options.mood = SupervisorStates.SHUTDOWN
        self.options.memory_kills.look(every=_MEMORY_LOOK)
        if self.options.changed:
            self.options.changed = not self._write_programs()
        if self.options.pump.changed:
            self.options.pump.keep(f"{self.options.run_dir}/{run_files.SAID}")

    def handle_signal(self) -> None:
        """TERM stops everything; HUP makes sshd read its new files, and restarts nothing.

        USR2 does the same for watch, which nobody has asked: the log need not have it.
        """
        number = self.options.get_signal()
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.options.mood = SupervisorStates.SHUTDOWN
        elif number in (signal.SIGHUP, signal.SIGUSR2):
            sshd = self.process_groups[GROUP].processes.get("sshd")
            if sshd is not None and sshd.pid:
                sshd.own_hup = "sent" if number == signal.SIGUSR2 else ""
                sshd.signal(signal.SIGHUP)

    def _processes(self) -> Iterator[Any]:
        for group in self.process_groups.values():
            yield from group.processes.values()

    def _write_programs(self) -> bool:
        """Write what is known of each program; where that cannot be done, later."""
        known: dict[str, Program] = {}
        for process in self._processes():
            name = process.config.name
            known[name if name not in known else f"{process.group.config.name}:{name}"] = (
                process.program()
            )
        path = f"{self.options.run_dir}/{run_files.PROGRAMS}"
        try:
            files.write([RenderedFile(path, programs.to_json(known), 0o644, -1, -1)])
        except BadSetting:  # /run is full: no reason to end anything
            return False
        return True
