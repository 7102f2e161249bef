"""PID 1: start the pipeline, forward signals, reap every child, end with the right status.

Standard library only, one sequential loop: signals are blocked and waited for, never
handled asynchronously.  Nothing here uses subprocess, whose wait and our reaper would
steal each other's statuses; nothing blocks on output, on a driver or on a disk longer than
its bound.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Collection
from typing import TypeVar

from launcher.model.errors import BadSetting, LauncherError, Stopped, reason, shortage
from launcher.process.fork import fork, fork_to_answer, write_all
from launcher.process.pump import Pump
from launcher.process.tree import (
    descendants,
    held,
    kill,
    kill_descendants,
    signal_name,
    wake_stopped,
)

_STRAGGLER_GRACE = 0.3
_DYING = 1.0  # seconds from a kill until what is there is the kernel's
# A terminal's Ctrl-C may reach us twice at once; a person presses again later, and means it.
_IMPATIENCE = 1.0
_LOOK = 0.05  # seconds between two looks at a child's pipe
_LONGEST_LOOK = 1.0  # seconds, on a busy machine

_OF_WRITING = (signal.SIGPIPE, signal.SIGXFSZ)

T = TypeVar("T")

STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
_FORWARDED = STOP | {
    signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP,
}  # fmt: skip
_WAITED = _FORWARDED | {signal.SIGCHLD}
# Whatever can be caught but what only a terminal sends: what tini(1) hands on, and more.
_EVERY = signal.valid_signals() - {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU,
}  # fmt: skip


class Child:
    """A forked child whose answer is read while it runs."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid = pid
        self.pipe = pipe
        self.answer = bytearray()
        self.status: int | None = None  # wait status, once it has ended

    def read(self) -> None:
        """Take what is there: a pipe holds 64 KiB, and a child that fills it would wait."""
        try:
            while chunk := os.read(self.pipe, 65536):
                self.answer += chunk
        except BlockingIOError:
            pass


class Init:
    """The process table of the box."""

    def __init__(self, out: Pump, fitted: Callable[[str], str] = str) -> None:
        """`fitted` says a message in the words of the place where the box runs."""
        self.out = out
        self._fitted = fitted
        self.signals: list[int] = []  # asked for while something else was waited for
        self.stopping = False
        self.stop_timeout = math.inf  # seconds from a stop request until what is left is killed
        self._children: dict[int, Child] = {}
        self._spawned: set[int] = set()
        self._at_end: dict[int, Callable[[int], None]] = {}
        self._ended: dict[int, int] = {}  # of what was spawned; orphans are not remembered
        self._in_turn = 0  # pid of what runs one at a time
        self._wanted: Callable[[], int] | None = None  # what follows it
        self._main = 0  # the pid, and the process group, that the box lives as long as
        self._said_held = False
        self._waited = _WAITED
        signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)
        if os.getpid() != 1:
            become_subreaper()

    def release_signals(self) -> None:
        """Be no init any more: what a signal does is again what the process says."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._waited)

    def hear_every_signal(self) -> None:
        """Wait for whatever can be caught: a command's signals are its own affair."""
        self._waited = _EVERY
        signal.pthread_sigmask(signal.SIG_BLOCK, self._waited)

    # --- children ---

    def fork(self, work: Callable[[], bytes]) -> Child:
        """Run `work` in a child; its bytes are the child's answer."""
        pid, reader = fork_to_answer(lambda writer: _answer(work, writer))
        os.set_blocking(reader, False)
        self._children[pid] = Child(pid, reader)
        return self._children[pid]

    def spawn(self, work: Callable[[], int], at_end: Callable[[int], None] | None = None) -> int:
        """Run `work` in a child that has no answer but its exit status; return its pid.

        Args:
            at_end: is given its wait status, once it has ended.
        """
        pid = fork(work)
        self._spawned.add(pid)
        if at_end:
            self._at_end[pid] = at_end
        return pid

    def has_ended(self, pid: int) -> bool:
        """Say whether what was spawned has ended."""
        return pid in self._ended

    def spawn_in_turn(self, work: Callable[[], int]) -> None:
        """Run `work` in a child, one at a time: what is asked for meanwhile runs once, after it."""
        if self._in_turn and self._in_turn not in self._ended:
            self._wanted = work
            return
        self._ended.pop(self._in_turn, None)
        self._wanted, self._in_turn = None, self.spawn(work)

    def wait_for(self, child: Child, timeout: float) -> bool:
        """Wait until `child` has ended; its end counts, not EOF, which a grandchild may hold.

        Returns False at the timeout.  Raises Stopped where a stop is asked for meanwhile.
        """
        left, seen = timeout, time.monotonic()
        while child.status is None:
            if left <= 0:
                return False
            # The pipe has no signal of its own, so look at it often while it may fill up.
            number = self._receive(min(left, _LOOK))
            now = time.monotonic()
            left -= min(now - seen, _LONGEST_LOOK)  # a box that was paused has not waited
            seen = now
            if child.status is None:
                child.read()
            if number in STOP:
                raise Stopped(number)
            if number is not None:
                self.signals.append(number)
        return True

    def abandon(self, child: Child) -> None:
        """Kill a child that is not wanted any more (in vain, where the kernel holds it)."""
        if child.status is None:
            kill(child.pid, signal.SIGKILL)

    # --- signals ---

    def next_signal(self, timeout: float | None = None) -> int | None:
        """Return the next signal that is not a child's; None at the timeout or after reaping."""
        return self.signals.pop(0) if self.signals else self._receive(timeout)

    def _receive(self, timeout: float | None) -> int | None:
        info: signal.struct_siginfo | None
        if timeout is None:
            info = signal.sigwaitinfo(self._waited)
        else:
            info = signal.sigtimedwait(self._waited, max(0.0, timeout))
        self._reap()
        self.out.flush()
        if info is None or info.si_signo == signal.SIGCHLD:
            return None
        # What a log does that nobody reads, or a full disk: where it is blocked, it waits here.
        our_own = info.si_signo in _OF_WRITING and info.si_pid == os.getpid()
        return None if our_own else info.si_signo

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid == self._main and os.WSTOPSIG(status) == signal.SIGTSTP:
                    # Ctrl-Z, and nobody is above us to continue it: that would hang the box.
                    kill(-pid, signal.SIGCONT)
                continue
            if pid in self._spawned:
                self._ended[pid] = status
            if at_end := self._at_end.pop(pid, None):
                at_end(status)
            if child := self._children.pop(pid, None):
                child.read()
                os.close(child.pipe)
                child.status = status

    def run_until_end(
        self, pid: int, on_signal: Callable[[int], None], stop: Collection[int] = STOP
    ) -> int:
        """Hand every signal to `on_signal` until `pid` ends; return its wait status.

        After a signal of `stop` it has `stop_timeout`; a second one, later, ends it at once.
        """
        self._main = pid
        self._spawned.add(pid)
        asked, deadline, killed = 0.0, math.inf, False
        while pid not in self._ended:
            left = deadline - time.monotonic()
            number = self.next_signal(None if left == math.inf else max(0.0, left))
            if number in stop:
                now = time.monotonic()
                if not self.stopping:
                    self.stopping, asked, deadline = True, now, now + self.stop_timeout
                    wake_stopped()
                elif now - asked > _IMPATIENCE:
                    deadline = now
            if time.monotonic() >= deadline:
                if killed:  # in vain
                    self._say_held()
                else:
                    self.out.say("launcher: something did not stop in time and is killed")
                kill_descendants(signal.SIGKILL)
                killed, deadline = True, time.monotonic() + _DYING
            if (wanted := self._wanted) and self._in_turn in self._ended:
                self._try(self.spawn_in_turn, wanted, signal.SIGHUP)
            if number is not None:
                self._try(on_signal, number, number)
        return self._ended[pid]

    def _try(self, act: Callable[[T], None], argument: T, number: int) -> None:
        """Without room for one more process a reload fails, and nothing else does."""
        try:
            act(argument)
        except OSError as err:
            why = self._fitted(reason(err))
            self.out.say(f"launcher: cannot act on {signal_name(number)}: {why}")

    def end_stragglers(self) -> None:
        """End whatever is left: TERM, a moment of grace, KILL."""
        kill_descendants(signal.SIGTERM)
        wake_stopped()
        deadline = time.monotonic() + _STRAGGLER_GRACE
        while descendants() and time.monotonic() < deadline:
            self.next_signal(0.02)
        kill_descendants(signal.SIGKILL)
        deadline = time.monotonic() + _STRAGGLER_GRACE
        while descendants() and time.monotonic() < deadline:
            self.next_signal(0.02)
        self._say_held()

    def _say_held(self) -> None:
        """Name what nobody can kill, once: the container does not end before it."""
        if (pids := held()) and not self._said_held:
            self._said_held = True
            self.out.say(
                f"launcher: the kernel holds {', '.join(pids)}: killed, and it waits, mostly for a "
                "GPU's driver; where the container does not end, only a reboot of the host ends it"
            )


def exit_code(status: int) -> int:
    """Return the shell's code for a wait status: 128+n for death by signal n."""
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def describe_end(status: int) -> str:
    """Say how a process ended, for people."""
    code = os.waitstatus_to_exitcode(status)
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit status {code}"


def become_subreaper() -> None:
    """Make orphans ours where we are not PID 1: prctl(2), PR_SET_CHILD_SUBREAPER."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def _answer(work: Callable[[], bytes], writer: int) -> int:
    """Write what `work` returns; of a LauncherError, the message, with its code as exit status."""
    status = 0
    try:
        answer = work()
    except LauncherError as err:
        answer, status = str(err).encode(errors="replace"), err.exit_code
    except OSError as err:
        if (missing := shortage(err)) is None:
            raise
        answer, status = missing.encode(), BadSetting.exit_code
    write_all(writer, answer)
    return status
