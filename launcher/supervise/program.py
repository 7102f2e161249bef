"""One program under supervision: its process, when it is started again, what is said of its end."""

from __future__ import annotations

import contextlib
import shlex
import signal
import time
from typing import Any

from supervisor import process as supervisor_process
from supervisor import rpcinterface
from supervisor.datatypes import RestartUnconditionally
from supervisor.options import BadCommand
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, SupervisorStates

from launcher.detect import cgroup
from launcher.model import run_files
from launcher.process.init import describe_end
from launcher.supervise import drop_ins
from launcher.supervise.programs import Program

_STATES = {
    ProcessStates.STARTING: "starting",
    ProcessStates.RUNNING: "running",
    ProcessStates.BACKOFF: "waiting",
    ProcessStates.STOPPING: "stopping",
    ProcessStates.STOPPED: "stopped",
    ProcessStates.EXITED: "ended",
    ProcessStates.FATAL: "failed",
    ProcessStates.UNKNOWN: "failed",
}
_TIMED = (
    ProcessStates.STARTING, ProcessStates.STOPPING, ProcessStates.BACKOFF, ProcessStates.EXITED,
)  # fmt: skip


class _SteadyClock:
    """The wall clock of our start, and from there on one that nobody sets.

    supervisor measures with time.time(): a clock that jumps would kill what is stopping, or keep
    waiting what is to be started again.
    """

    gmtime = staticmethod(time.gmtime)
    localtime = staticmethod(time.localtime)

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def time(self) -> float:
        return self._offset + time.monotonic()


CLOCK = _SteadyClock()
supervisor_process.time = CLOCK
rpcinterface.time = CLOCK  # it tells how long a program has been running


class BoxProcess(Subprocess):  # type: ignore[misc]
    """A program; `config` is a BoxProcessConfig."""

    delay: float

    ends = 0  # in a row
    starts = 0
    end: str | None = None  # how it ended last
    since = 0.0  # CLOCK_MONOTONIC, seconds
    kills = 0  # SIGKILLs at its stop
    hopeless = False  # it said that another start would end the same way
    own_hup = ""  # of a HUP that nobody asked for: "sent", "heard"

    # --- starting ---

    def get_execv_args(self) -> tuple[str, list[str]]:
        """Leave it to the workspace user's PATH where its program is."""
        if not self.config.for_the_user:
            return super().get_execv_args()  # type: ignore[no-any-return]
        try:
            argv = shlex.split(self.config.command)
        except ValueError as err:
            raise BadCommand(f"cannot read the command {self.config.command!r}: {err}") from err
        if not argv:
            raise BadCommand("the command is empty")
        argv = drop_ins.command_for_the_user(argv) or argv
        return argv[0], argv

    def spawn(self) -> int | None:
        asked_for = self.state in (ProcessStates.STOPPED, ProcessStates.FATAL)
        if asked_for or (self.state == ProcessStates.EXITED and CLOCK.time() < self.delay):
            self.ends = self.backoff = 0  # by a person, or the first time: the past is forgotten
        self.starts += 1
        self.kills = 0
        return super().spawn()  # type: ignore[no-any-return]

    def _spawn_as_child(self, filename: str, argv: list[str]) -> None:
        self.config.options.child = self.config  # this process's own options, since the fork
        super()._spawn_as_child(filename, argv)

    # --- running ---

    def transition(self) -> None:
        """Go on to the next state, where its time has come.

        supervisor starts what has ended again at once, and for ever.
        """
        over = self.hopeless or CLOCK.time() < self.delay
        if self.state != ProcessStates.EXITED or not over:
            super().transition()

    def due(self) -> float:
        """Return in how many seconds `transition` has something to do; infinite where nothing."""
        over = self.state == ProcessStates.EXITED and self._is_stopping()
        timed = self.state in _TIMED and self.delay and not over
        return self.delay - CLOCK.time() if timed else float("inf")

    def _check_and_adjust_for_system_clock_rollback(self, test_time: float) -> None:
        """Nothing to adjust: the clock is steady, and the waits are longer than supervisor's."""

    def kill(self, sig: int) -> str | None:
        if sig == signal.SIGKILL and self.state == ProcessStates.STOPPING:
            self.kills += 1
            if self.kills == 1:
                waited = self.config.stopwaitsecs
                self._say(f"{self.config.name} did not stop within {waited:g} s and is killed")
        return super().kill(sig)  # type: ignore[no-any-return]

    # --- ending ---

    def finish(self, pid: int, sts: int) -> None:
        self.end = describe_end(sts)
        by_us = bool(self.kills)
        if sts == signal.SIGKILL and not by_us and self.config.options.memory_kills.recent():
            self.end += f", {cgroup.reason()}"
        self.hopeless = self.config.name == "jupyter" and self.end == _HOPELESS
        if self.hopeless:
            self.backoff = int(self.config.startretries)  # this was the last try
        dispatchers = list(self.dispatchers.values())
        super().finish(pid, sts)
        for dispatcher in dispatchers:  # something it started may still hold the pipe
            dispatcher.close()

    def give_up(self) -> None:
        """Fail for good; a program that waits while everything is stopped has not failed."""
        if not self._is_stopping():
            super().give_up()
            return
        self.delay = self.backoff = 0
        self.change_state(ProcessStates.STOPPED)

    def change_state(self, new_state: Any, expected: bool = True) -> bool | None:
        changed = super().change_state(new_state, expected)
        self.since = time.monotonic()
        self.config.options.changed = True
        if new_state in (ProcessStates.BACKOFF, ProcessStates.EXITED):
            self._ended(new_state, expected)
        elif new_state == ProcessStates.FATAL:
            self.config.options.failed(self)
        return changed  # type: ignore[no-any-return]

    def _ended(self, state: Any, expected: bool) -> None:
        ran = CLOCK.time() - self.laststart
        self.ends = in_a_row(self.ends, ran)
        pause = wait(self.ends, self.config.options.supervision.restart_delay)
        too_early = state == ProcessStates.BACKOFF
        again = too_early or self._is_restarted()
        self.delay = CLOCK.time() + pause if again else 0.0
        if too_early and not self.pid:
            self.end = self.spawnerr  # it was not even started
        if self._is_stopping() or (too_early and self._has_failed()):
            return
        name, how = self.config.name, str(self.end)
        if name == "jupyter" and self.exitstatus == UNUSED:
            self.config.options.end_unused()
        elif again:
            if line := restart_line(name, ran, how, self.ends, pause):
                self._say(line)
        elif not expected and self.config.required:
            self.config.options.failed(self)
        elif not (expected and self.config.ours):
            rest = (
                "the box goes on" if self.config.ours else "it is not started again (autorestart)"
            )
            self._say(f"{name} ended after {rounded_duration(ran)} ({how}); {rest}")

    def _is_restarted(self) -> bool:
        """Say whether supervisor starts it again, after an end in the running state."""
        if self.hopeless:
            return False
        if self.config.autorestart is RestartUnconditionally:
            return True
        return bool(self.config.autorestart) and self.exitstatus not in self.config.exitcodes

    def _has_failed(self) -> bool:
        """Say whether it ended too early too often, so that supervisor gives it up next."""
        return self.backoff > int(self.config.startretries)

    def _is_stopping(self) -> bool:
        return bool(self.config.options.mood < SupervisorStates.RUNNING)

    def _say(self, text: str) -> None:
        self.config.options.pump.say(f"launcher: {text}")

    # --- for whoever asks ---

    def program(self) -> Program:
        state = _STATES[self.state]
        if state == "ended" and self._is_restarted() and not self._is_stopping():
            state = "waiting"
        return Program(
            group=self.group.config.name,
            state=state,
            pid=self.pid,
            since=self.since,
            starts=self.starts,
            end=self.end,
            required=self.config.required,
        )

    def last_lines_file(self) -> str | None:
        """Return the file that has its last output; None where it keeps none that we may read."""
        with contextlib.suppress(AttributeError):
            for path in (self.config.stdout_logfile, self.config.stderr_logfile):
                if path and path.startswith(f"{self.config.options.run_dir}/{run_files.LOG}/"):
                    return str(path)
        return None


# Exit statuses of our Jupyter (guest/jupyter.py): nobody used it; it is not installed.
UNUSED, CANNOT = 83, 78
_HOPELESS = f"exit status {CANNOT}"  # in describe_end's words
FORGOTTEN_AFTER = 60.0  # seconds of running
_ALWAYS_SAID = 5  # ends in a row; of those that follow, every tenth
_MOST_DOUBLINGS = 30  # 2.0 ** 1024 is an OverflowError, and a program may end for years


def in_a_row(before: int, ran: float) -> int:
    """Count an end after `ran` seconds, where `before` were counted in a row."""
    return 1 if ran >= FORGOTTEN_AFTER else before + 1


def wait(ends: int, longest: float) -> float:
    """Return how many seconds to wait after that many ends in a row: 0, 1, 2, 4, 8 … `longest`."""
    return 0.0 if ends <= 1 else min(longest, 2.0 ** min(ends - 2, _MOST_DOUBLINGS))


def restart_line(name: str, ran: float, how: str, ends: int, pause: float) -> str | None:
    """Return what is said of an end that a restart follows; None where nothing is said.

    Args:
        ran, pause: seconds that it ran, and until it is started again.
        how: "exit status 1", "killed by SIGKILL".
        ends: how many in a row, this one included.
    """
    if ends > _ALWAYS_SAID and ends % 10:
        return None
    when = f"in {pause:g} s" if pause else "at once"
    rest = ""
    if ends == _ALWAYS_SAID:
        rest = " (from here on every tenth end is said)"
    elif ends > _ALWAYS_SAID:
        rest = f" (its end number {ends} in a row)"
    return f"{name} ended after {rounded_duration(ran)} ({how}); it is started again {when}{rest}"


def rounded_duration(seconds: float) -> str:
    """Return a time for people: 12 s, 3 min, 26 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
