"""The child that waits for the driver's events, as the watch holds it: started, ended, read.

Nothing waits for it.  A driver that does not answer it holds up nobody else, and is for the looks
to find out.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable, Sequence

from launcher.model.named_tuple import NamedTuple
from launcher.model.watch import GpusAtStart, ListedGpu
from launcher.process.fork import fork_to_answer
from launcher.process.tree import kill

_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0  # seconds until one that broke is followed by another


class Heard(NamedTuple):
    """What happened to a GPU."""

    gpu: int
    code: int  # of an Xid
    count: int  # type: ignore[assignment]  # how often; 0 = it was told before
    line: str  # for the log; "" = none
    reset: str  # why the GPU needs a reset; "" = it needs none


class Listener:
    """Hears the GPUs that it is told to, as far as the driver has events."""

    def __init__(self, start: GpusAtStart, place: str) -> None:
        self._start = start
        self._place = place
        self._pid = 0
        self._pipe: int | None = None
        self._unread = b""
        self._wanted: Sequence[ListedGpu] = ()
        self._deaf = False  # the driver has no events
        self._pause, self._next_start = _PAUSE, 0.0
        self._gone: dict[int, bool] = {}  # pids to be reaped: did it end by itself?

    @property
    def pipe(self) -> int | None:
        return self._pipe

    def hear(self, wanted: Sequence[ListedGpu], known: Iterable[tuple[int, int]]) -> None:
        """Hear these from now on, and no others: their GPUs are let go.

        Args:
            wanted: GPUs of the start.
            known: Xids that the log has already, as (GPU, code).

        Raises OSError where there is no room for one more process.
        """
        self._reap()
        if list(wanted) != list(self._wanted):
            self.stop()
            self._wanted, self._next_start = wanted, 0.0
        idle = not (self._pid or self._deaf or any(self._gone.values()))
        if wanted and idle and time.monotonic() >= self._next_start:
            self._next_start = time.monotonic() + self._pause  # where it cannot be started, too
            me, said = os.getpid(), tuple(known)
            self._pid, self._pipe = fork_to_answer(lambda to: self._listen(said, me, to))
            os.set_blocking(self._pipe, False)

    def _listen(self, known: tuple[tuple[int, int], ...], parent: int, writer: int) -> int:
        from launcher.watch import gpu_events
        from launcher.watch.xid_news import Kind

        kinds = [Kind(*each) for each in known]
        return gpu_events.listen(self._start, self._place, self._wanted, kinds, parent, writer)

    def read(self) -> list[Heard]:
        """Return what was heard since the last time."""
        self._reap()
        if self._pipe is None:
            return []
        ended = False
        try:
            while chunk := os.read(self._pipe, 65536):
                self._unread += chunk
            ended = True
        except BlockingIOError:
            pass
        *lines, self._unread = self._unread.split(b"\n")
        heard = [Heard(**json.loads(line)) for line in lines]
        if ended:
            self._let_go(by_itself=True)
            self._next_start = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return heard

    def stop(self) -> None:
        """End it, and let go of the GPUs."""
        if self._pid:
            kill(self._pid, signal.SIGKILL)
            self._let_go(by_itself=False)
        self._wanted = ()

    def _let_go(self, *, by_itself: bool) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
        self._gone[self._pid] = by_itself
        self._pid, self._pipe, self._unread = 0, None, b""

    def _reap(self) -> None:
        """Take the status of those that ended, as far as the kernel lets go of them."""
        for pid, by_itself in list(self._gone.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._gone[pid]
                if by_itself and os.waitstatus_to_exitcode(status) == 0:
                    self._deaf = True
