"""Write lines to a log that nobody may be reading, without ever waiting for it.

A full pipe stops a blocking writer for good, and with it whatever it supervises.  So lines
wait in a bounded queue; what does not fit is dropped, counted, and owned up to later.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque

from launcher.model.printable import printable

_PIPE_BUF = 4096  # a write of at most this many bytes does not block once poll says POLLOUT


class Pump:
    """A non-blocking line writer on descriptor `fd`, holding at most `limit` bytes."""

    def __init__(self, fd: int, limit: int = 256 * 1024) -> None:
        self._limit = limit
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._dropped = 0
        self.fd = _reopen(fd)

    def write(self, text: bytes) -> None:
        """Queue whole lines and write what can be written now."""
        if self._queued + len(text) > self._limit:
            self._dropped += text.count(b"\n")
        else:
            self._queue.append(text)
            self._queued += len(text)
        self.flush()

    def say(self, text: str) -> None:
        """Write one line, whatever is in it."""
        self.write(f"{printable(text)}\n".encode(errors="replace"))

    def pending(self) -> bool:
        return bool(self._queue)

    def flush(self, timeout: float = 0.0) -> None:
        """Write while the reader takes it; wait at most `timeout` seconds for it once."""
        while self._queue:
            if not self._writable(timeout):
                return
            try:
                done = os.write(self.fd, self._queue[0][:_PIPE_BUF])
            except BlockingIOError:
                return
            except OSError:  # the reader is gone: there is nobody left to tell
                self._queue.clear()
                self._queued = 0
                return
            self._queued -= done
            self._queue[0] = self._queue[0][done:]
            if not self._queue[0]:
                self._queue.popleft()
        if self._dropped:
            lost, self._dropped = self._dropped, 0
            self.say(f"launcher | {lost} lines are missing here: nobody was reading the log")

    def _writable(self, timeout: float) -> bool:
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(timeout * 1000))


def _reopen(fd: int) -> int:
    """Return our own non-blocking description of `fd`.

    On a dup, O_NONBLOCK would be shared with every process that has the same stdout.  A
    file is never slow and would be overwritten from its start; a socket cannot be reopened.
    Both are used as they are, behind poll.
    """
    kind = os.fstat(fd).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{fd}", flags)
        except OSError:
            pass
    return os.dup(fd)
