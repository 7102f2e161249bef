"""A forked child that may hang: read without waiting, killed, and left where that does not help."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from launcher.process.fork import fork_to_answer
from launcher.process.tree import kill, signal_name


class Child:
    """Runs `work`; its answer is what that returns, or what it failed with."""

    def __init__(self, work: Callable[[], bytes], deadline: float) -> None:
        """Start it.  Raises OSError where there is no room for one more process.

        Args:
            work: returns at most 32 KiB.
            deadline: CLOCK_MONOTONIC, seconds; for whoever waits.
        """
        self.deadline = deadline
        self.answer = bytearray()
        self.killed = False
        self._status: int | None = None
        self._pid, self.pipe = fork_to_answer(lambda writer: _answer(work, writer))
        os.set_blocking(self.pipe, False)

    def has_ended(self) -> bool:
        """Return whether it has, and take what it says."""
        if self._status is None:
            self._status = _reap(self._pid)
        try:
            while chunk := os.read(self.pipe, 65536):
                self.answer += chunk
        except OSError:  # nothing to read now, or it is closed
            pass
        return self._status is not None

    @property
    def code(self) -> int:
        """Return its exit status; 0 where it is still there, or was killed."""
        return max(0, os.waitstatus_to_exitcode(self._status or 0))

    @property
    def crash(self) -> str:
        """Return the signal that ended it, or ""."""
        number = os.waitstatus_to_exitcode(self._status or 0)
        return signal_name(-number) if number < 0 else ""

    def kill(self, deadline: float) -> None:
        kill(self._pid, signal.SIGKILL)
        self.killed, self.deadline = True, deadline

    def close(self) -> None:
        """Close its pipe: nothing more is read."""
        os.close(self.pipe)
        self.pipe = -1


def _answer(work: Callable[[], bytes], writer: int) -> int:
    try:
        answer, status = work(), 0
    except Exception as err:
        answer, status = f"{type(err).__name__}: {err}".encode(errors="replace"), 70
    os.write(writer, answer[: 1 << 15])  # a pipe holds twice that
    return status


def _reap(pid: int) -> int | None:
    """Return how a child ended, or None while it is there."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if ended else None
