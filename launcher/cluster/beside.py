"""What stands beside a torchrun: names the job, and what a rank died of.

`python -I -m launcher.cluster.beside PID JOB RUN_DIR` is a child of the torchrun with that PID, so
that this one is what it would be without us: its pid, its signals, its exit status.  torchrun says
the signal that a rank died of; that the kernel took it for want of memory, or an Xid of its GPU, it
does not know.  JOB is a line of JSON that `launcher status` reads from here (detect/jobs).  When a
rank died this process becomes itself anew, with that in JOB.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.detect import cgroup, jobs
from launcher.model import codec, run_files
from launcher.model.job import Death, RunningJob
from launcher.model.named_tuple import NamedTuple
from launcher.model.printable import printable
from launcher.process.fork import end_with
from launcher.process.tree import signal_name

_LOOK = 0.5  # seconds: for new workers, where all that there shall be are known
# And where some are not.  torchrun hears of a rank's end 0.1 s after it started it at the earliest
# (monitor_interval), and until then one that died at once is a zombie that has its status.
_SOON = 0.05
_STOPPED = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}  # torchrun stops its others so
_MOST = 3  # deaths that are kept
_INFO, _INFO_EXIT, _GET_INFO = struct.Struct("=QQ12i"), 1 << 3, 0xC040FF0B  # linux/pidfd.h
_START, _EXIT_CODE = 22, 52  # fields of proc_pid_stat(5): the latter as wait(2) gives it


class Worker(NamedTuple):
    """A rank's process."""

    pid: int
    rank: str  # of all; "" = it ended before it could be asked
    local: str  # of this node
    began: float  # CLOCK_MONOTONIC, seconds

    @property
    def shown(self) -> str:
        if not self.rank:
            return f"a rank (pid {self.pid})"
        return f"rank {self.rank} (local rank {self.local}, pid {self.pid})"


class Trouble(NamedTuple):
    """How often it came so far: processes that were killed for want of memory, Xids by GPU."""

    kills: int
    xids: Mapping[str, Mapping[str, int]] = {}


def say_why(number: int, before: Trouble, now: Trouble, reason: str) -> str:
    """Return what is said of a rank that a signal killed: by which, and what of.  Pure.

    Args:
        number: of the signal.
        reason: what is said of want of memory.
    """
    said = signal_name(number)
    if number == signal.SIGKILL and now.kills > before.kills:
        said += f": the kernel killed it for want of memory, {reason}"
    elif number == signal.SIGBUS:
        said += ": as a rule /dev/shm is full; launcher doctor says how large it is"
    came = "; ".join(_new_xids(before, now))
    return f"{said}; meanwhile {came}: launcher doctor" if came else said


def _new_xids(before: Trouble, now: Trouble) -> Iterator[str]:
    """Yield "GPU 3: Xid 79" for what came between two looks."""
    for gpu, codes in now.xids.items():
        known = before.xids.get(gpu, {})
        new = [code for code, count in codes.items() if count > known.get(code, 0)]
        if new:
            yield f"GPU {gpu}: Xid {', '.join(new)}"


class Beside:
    """Watches one torchrun and its workers."""

    def __init__(self, torchrun: int, job: RunningJob, run_dir: str) -> None:
        self.torchrun = torchrun
        self.job = job
        self._run_dir = run_dir
        self._workers: dict[int, Worker] = {}  # by the descriptor that tells their end
        self._gone: set[int] = set()  # those that ended and have not been waited for
        self._before = self._look()

    def stay(self) -> None:
        """Stay until torchrun has ended."""
        poller = select.poll()
        end = os.pidfd_open(self.torchrun)
        poller.register(end, select.POLLIN)
        while True:
            look = _LOOK if len(self._workers) >= self.job.processes else _SOON
            ended = [fd for fd, _ in poller.poll(1000 * look)]
            for fd in ended:
                if fd in self._workers:
                    worker = self._workers.pop(fd)
                    self._gone.add(worker.pid)
                    self._say_how_it_ended(worker, fd)
                    poller.unregister(fd)
                    os.close(fd)
            if end in ended:
                return
            for fd in self._find_workers():
                poller.register(fd, select.POLLIN)

    def _find_workers(self) -> Iterator[int]:
        there = children(self.torchrun)
        self._gone &= {*there}
        known = {os.getpid(), *self._gone, *(worker.pid for worker in self._workers.values())}
        for pid in there:
            if pid not in known and (worker := read_worker(pid)):
                with contextlib.suppress(OSError):
                    fd = os.pidfd_open(pid)
                    if not self._workers and worker.rank:  # a new round of them
                        self._before = self._look()
                    self._workers[fd] = worker
                    yield fd

    def _say_how_it_ended(self, worker: Worker, descriptor: int) -> None:
        """Say it of the first of a round that a signal killed: torchrun kills the others itself."""
        number = killed_by(worker.pid, descriptor)
        told = any(death.at > worker.began for death in self.job.deaths)
        if number and number not in _STOPPED and not told:
            by = say_why(number, self._before, self._look(), cgroup.reason())
            line = f"launcher: {worker.shown} on {self.job.shown} was killed by {by}"
            sys.stderr.write(f"{printable(line)}\n")
            self._tell(Death(worker.shown, by, time.monotonic()))

    def _tell(self, death: Death) -> None:
        """Become this program anew, whose command line has it; what it watches it finds again."""
        job = self.job._replace(deaths=(*self.job.deaths, death)[-_MOST:])
        words = [str(self.torchrun), codec.to_json(job), self._run_dir]
        with contextlib.suppress(OSError):
            os.execve(sys.executable, [sys.executable, "-I", "-m", jobs.MODULE, *words], {})

    def _look(self) -> Trouble:
        xids: Mapping[str, Mapping[str, int]] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            health = Path(f"{self._run_dir}/{run_files.HEALTH}").read_text()
            xids = dict(json.loads(health)["gpus"]["xids"])
        return Trouble(cgroup.kills(), xids)


def children(pid: int) -> list[int]:
    """Return a process's children, of any of its threads."""
    found = (cgroup.read_text(path) for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(word) for text in found for word in (text or "").split()]


def read_worker(pid: int) -> Worker | None:
    """Return the rank that a process is; None = none, or none yet.

    Of one that has ended its environment is gone.  What else torchrun starts ends by itself.
    """
    text = cgroup.read_text(Path(f"/proc/{pid}/environ")) or ""
    pairs = (entry.partition("=") for entry in text.split("\0"))
    environ = {name: value for name, _, value in pairs}
    if "TORCHELASTIC_RUN_ID" not in environ or "LOCAL_RANK" not in environ:
        return Worker(pid, "", "", _began(pid)) if is_zombie(pid) else None
    return Worker(pid, environ.get("RANK", "?")[:9], environ["LOCAL_RANK"][:9], _began(pid))


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended, and nobody has waited for it."""
    stat = cgroup.read_text(Path(f"/proc/{pid}/stat")) or ""
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


def _began(pid: int) -> float:
    """Return when a process began, to a hundredth of a second; it counts from the machine's start.

    That clock and CLOCK_MONOTONIC differ by the time that the machine was asleep.
    """
    ticks = _field(pid, _START) / os.sysconf("SC_CLK_TCK")
    return time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)


def killed_by(pid: int, descriptor: int) -> int | None:
    """Return the signal that killed a process that has ended.

    Args:
        descriptor: its pidfd, which knows it where torchrun has heard of it before us.
    """
    status = _field(pid, _EXIT_CODE) or _reaped(descriptor)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None


def _reaped(descriptor: int) -> int:
    """Return the status of a process whose parent has heard of it; 0 before Linux 6.15.

    struct pidfd_info of linux/pidfd.h, its first version.
    """
    info = bytearray(_INFO.pack(_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(descriptor, _GET_INFO, info)
    except OSError:
        return 0
    mask, *_, status = _INFO.unpack(info)
    return int(status) if mask & _INFO_EXIT else 0


def _field(pid: int, number: int) -> int:
    """Return a field of proc_pid_stat(5), 0 where it is not there."""
    fields = (cgroup.read_text(Path(f"/proc/{pid}/stat")) or "").rpartition(")")[2].split()
    place = number - 3  # the first field after the name is the third
    return int(fields[place]) if len(fields) > place else 0


def main(pid: str, job: str, run_dir: str) -> None:
    # Ctrl-C and a terminal that goes are torchrun's; with it we end.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if end_with(int(pid)):
        Beside(int(pid), codec.from_json(RunningJob, job), run_dir).stay()


if __name__ == "__main__":
    main(*sys.argv[1:])
