"""End a box that nobody uses, where that was asked for: LAUNCHER_IDLE_SHUTDOWN.

Used is a box where a kernel or a GPU computes, a program takes the CPU, somebody is logged in, or
somebody does something in Jupyter.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Callable, Iterator

from launcher.model.named_tuple import NamedTuple
from launcher.model.watch import JupyterDoor
from launcher.process import tree
from launcher.process.fork import fork_to_answer, limit_files
from launcher.watch import ready

_EVERY = 30.0  # seconds between two looks at the most
_WARNED_BEFORE = 600.0  # seconds; of a short time half
_BUSY_CPU = 0.2  # of one core: more than an open page takes
_BUSY_GPU = 5  # percent
_PATIENCE = 3.0  # seconds for the driver's answer


class Use(NamedTuple):
    """What was seen of somebody's use."""

    what: str  # "a kernel computes"; "" = nobody uses the box
    since: float = 0.0  # seconds ago that Jupyter saw somebody last; 0 = not known


class IdleWatch:
    """Knows for how long nobody has used the box.  Times are CLOCK_MONOTONIC, seconds."""

    def __init__(self, limit: float, started: float) -> None:
        self._limit = limit
        self._used = started
        self._next = 0.0
        self._warned = False

    def turn(self, now: float, look: Callable[[], Use]) -> tuple[str | None, bool]:
        """Return a line for the log where there is one, and whether the box is to end."""
        if now < self._next:
            return None, False
        self._next = now + min(_EVERY, self._limit / 10)
        use = look()
        if use.what:
            self._used = now
        elif use.since:
            self._used = max(self._used, now - use.since)
        idle = now - self._used
        if idle >= self._limit:
            return f"launcher: nobody has used this box for {_in_words(idle)}: it ends now", True
        left = self._limit - idle
        warns = left <= min(_WARNED_BEFORE, self._limit / 2)
        line = None
        if warns and not self._warned:
            line = (
                f"launcher: nobody has used this box for {_in_words(idle)}: it ends in "
                f"{_in_words(left)} (LAUNCHER_IDLE_SHUTDOWN)"
            )
        self._warned = warns
        return line, False


def _in_words(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


class Looks:
    """Looks whether anybody uses the box."""

    def __init__(self, jupyter: JupyterDoor | None, gpus: bool) -> None:
        self._jupyter = jupyter
        self._gpus = gpus
        self._cpu: tuple[float, float] | None = None  # when it was read, and the seconds used then

    def __call__(self) -> Use:
        if self._takes_the_cpu():
            return Use("a program takes the CPU")
        if any(people()):
            return Use("somebody is logged in")
        if self._gpus and gpu_computes():
            return Use("a GPU computes")
        return jupyter_use(self._jupyter) if self._jupyter else Use("")

    def _takes_the_cpu(self) -> bool:
        before, self._cpu = self._cpu, (time.monotonic(), cpu_seconds())
        if before is None or self._cpu[0] <= before[0]:
            return False
        return (self._cpu[1] - before[1]) / (self._cpu[0] - before[0]) > _BUSY_CPU


def cpu_seconds() -> float:
    """Return what the box has used of CPUs so far; 0 where its cgroup does not tell."""
    used = re.search(r"^usage_usec (\d+)$", _read("/sys/fs/cgroup/cpu.stat"), re.MULTILINE)
    if used:
        return int(used[1]) / 1e6
    nanoseconds = _read("/sys/fs/cgroup/cpuacct/cpuacct.usage").strip()
    return int(nanoseconds) / 1e9 if nanoseconds.isdecimal() else 0.0


def people() -> Iterator[int]:
    """Yield the processes that somebody has come in by: of sshd, and of `docker exec -t`.

    sshd names the process of a login "sshd: USER@…"; what an engine starts in a container has no
    parent in it, and a terminal where a person is meant.
    """
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        title = _read(f"/proc/{pid}/cmdline")
        if title.startswith("sshd: ") and "@" in title.partition("\0")[0]:
            yield int(pid)
        elif pid != "1":
            fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
            # proc_pid_stat(5): state, ppid, pgrp, session, tty_nr.
            if len(fields) > 4 and fields[1] == "0" and fields[4] != "0":
                yield int(pid)


def gpu_computes() -> bool:
    """Return whether some GPU is busy, asked in a child: the driver may hang."""

    def ask(writer: int) -> int:
        from launcher.detect import nvml

        limit_files()
        os.write(writer, b"busy" if nvml.busiest() >= _BUSY_GPU else b"idle")
        return 0

    pid, reader = fork_to_answer(ask)
    try:
        heard = select.select([reader], [], [], _PATIENCE)[0]
        return bool(heard) and os.read(reader, 4) == b"busy"
    finally:
        os.close(reader)
        tree.kill(pid, signal.SIGKILL)
        reap(pid)


def reap(pid: int) -> None:
    """Wait for a child, but not for ever: the kernel may hold it."""
    for _ in range(20):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
                continue
        return


def jupyter_use(door: JupyterDoor) -> Use:
    """Return what Jupyter says of kernels, and of who did something in it last."""
    kernels = ready.ask_jupyter(door, "kernels")
    if isinstance(kernels, list) and any(
        isinstance(kernel, dict) and kernel.get("execution_state") in ("busy", "starting")
        for kernel in kernels
    ):
        return Use("a kernel computes")
    status = ready.ask_jupyter(door, "status")
    if not isinstance(status, dict):
        return Use("")
    return Use("", max(1.0, seconds_ago(str(status.get("last_activity", "")), time.time())))


def seconds_ago(stamp: str, now: float) -> float:
    """Return how long ago an ISO 8601 time of Jupyter's was; 0 where it is none."""
    from datetime import datetime, timezone

    try:
        then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if then.tzinfo is None:
        then = then.replace(tzinfo=timezone.utc)
    return max(0.0, now - then.timestamp())


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""
