"""Look at the GPUs every so often, in a child: the driver may hang, and watch must not.

watch itself holds no handle of the driver's: one would survive the loss that is looked for, and
keep the host from resetting the GPU.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from launcher.model.watch import GpusAtStart, Probe
from launcher.process.fork import fork_to_answer, limit_files
from launcher.watch.news import GpuNews

NAME = "gpus"
_CONTROL = "/dev/nvidiactl"
_TO_JUDGE = 10.0  # seconds for the checks, which ask nobody
_GRACE = 1.0  # seconds for a kill; what is there after that is held by the kernel


@dataclass
class _Child:
    pid: int
    pipe: int
    deadline: float  # CLOCK_MONOTONIC, seconds
    asks: bool  # the driver; else it judges that there was no answer
    answer: bytearray = field(default_factory=bytearray)
    killed: bool = False


class GpuWatch:
    """Knows whether the log says that GPUs are lost, and when to look again."""

    def __init__(self, run_dir: str, start: GpusAtStart, said: str = "") -> None:
        """Watch those of the start; `said` is the loss that the log has already."""
        self._run_dir = run_dir
        self._start = start
        self._news = GpuNews(said)
        self._fault = ""
        self._due = 0.0
        self._child: _Child | None = None
        self._stuck = 0  # pid of a child that the kernel holds

    @property
    def probe(self) -> Probe:
        lost = self._news.said
        return Probe(NAME, not lost, lost or "as at the start")

    @property
    def pipe(self) -> int | None:
        """Return what becomes readable when the child that runs has an answer."""
        return self._child.pipe if self._child else None

    @property
    def next_event(self) -> float:
        """Return when `step` is to be called at the latest: CLOCK_MONOTONIC, seconds."""
        return self._child.deadline if self._child else self._due

    def glance(self) -> None:
        """Open the control node; where that ends otherwise than before, look at the GPUs now.

        A host's `systemctl daemon-reload` takes it away from one moment to the next.
        """
        if self._child or self._stuck:  # where the driver hangs, opening it may, too
            return
        fault = control_fault()
        if fault != self._fault:
            self._fault, self._due = fault, 0.0

    def step(self) -> str | None:
        """Go on without waiting; return a line for the log where there is news.

        Raises RuntimeError or OSError where a look failed for a reason that is not the driver's.
        """
        now = time.monotonic()
        if self._child:
            return self._go_on(self._child, now)
        if now < self._due:
            return None
        self._due = now + self._start.interval  # where not even a child can be started, too
        if self._stuck and _reap(self._stuck) is None:  # a second one would hang beside it
            return None
        self._stuck = 0
        recovering = bool(self._news.said)
        work = partial(_look, self._run_dir, self._start, recovering)
        self._child = _fork(work, self._start.patience, asks=True)
        return None

    def _go_on(self, child: _Child, now: float) -> str | None:
        status = _reap(child.pid)
        _read(child)
        if status is None and now < child.deadline:
            return None
        if status is None and not child.killed:
            os.kill(child.pid, signal.SIGKILL)
            child.killed, child.deadline = True, now + _GRACE
            return None
        os.close(child.pipe)
        self._child, self._due = None, now + self._start.interval
        if status is None:
            self._stuck = child.pid
        code = 0 if status is None else os.waitstatus_to_exitcode(status)
        if child.asks and (child.killed or code < 0):
            self._ask_why(child, code)
            return None
        if child.killed or code:
            raise RuntimeError(f"cannot look at the GPUs: {child.answer.decode() or code}")
        return self._hear(child, now)

    def _ask_why(self, child: _Child, code: int) -> None:
        """Let the checks say what a driver means that hangs or crashes."""
        kind, reason = "hung", f"no answer within {self._start.patience:g} s"
        if not child.killed:
            kind, reason = "crashed", f"killed by {signal.Signals(-code).name}"
        work = partial(_judge, self._run_dir, self._start, kind, reason)
        self._child = _fork(work, _TO_JUDGE, asks=False)

    def _hear(self, child: _Child, now: float) -> str | None:
        said = json.loads(child.answer) if child.answer else {"detail": "", "line": ""}
        before, self._news = self._news.said, self._news.see(said["detail"])
        if self._stuck:  # it is still silent, which is as good as a second look
            self._news = self._news.see(said["detail"])
        # A driver that was silent is asked again at once: a loss is to be told within a minute.
        at_once = self._news.suspected is not None and not child.asks
        self._due = now + (0 if at_once else self._news.pause(self._start.interval))
        return str(said["line"]) if self._news.said != before else None


# --- what the children do ---------------------------------------------------------------------


def _look(run_dir: str, start: GpusAtStart, recovering: bool) -> bytes:
    """Return nothing where all is as at the start, and the log does not say otherwise."""
    from launcher.watch import roll_call

    limit_files()
    roll_call.ask_as_the_start_did(start)
    if roll_call.as_at_start(start, control_fault()) and not recovering:
        return b""
    from launcher.watch import gpu_loss

    return gpu_loss.look_for_loss(run_dir, dict(start.environ))


def _judge(run_dir: str, start: GpusAtStart, kind: str, reason: str) -> bytes:
    from launcher.model.machine import DriverFailure
    from launcher.watch import gpu_loss

    return gpu_loss.look_for_loss(run_dir, dict(start.environ), DriverFailure(kind, reason))


def control_fault() -> str:
    """Return why the driver's control node cannot be opened ("EPERM"), or "" where it can."""
    try:
        os.close(os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError as err:
        return errno.errorcode.get(err.errno or 0, str(err.errno))
    return ""


def _fork(work: Callable[[], bytes], patience: float, asks: bool) -> _Child:
    """Run `work` in a child, whose answer is what it returns, or what it failed with.

    It has `patience` seconds.
    """
    pid, reader = fork_to_answer(lambda writer: _answer(work, writer))
    os.set_blocking(reader, False)
    return _Child(pid, reader, time.monotonic() + patience, asks)


def _answer(work: Callable[[], bytes], writer: int) -> int:
    try:
        answer, status = work(), 0
    except Exception as err:
        answer, status = f"{type(err).__name__}: {err}".encode(errors="replace"), 70
    os.write(writer, answer[: 1 << 15])  # a pipe holds twice that
    return status


def _read(child: _Child) -> None:
    try:
        while chunk := os.read(child.pipe, 65536):
            child.answer += chunk
    except BlockingIOError:
        pass


def _reap(pid: int) -> int | None:
    """Return how a child ended, or None while it is there."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if ended else None
