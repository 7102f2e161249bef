"""Keep health.json true, and say what changes: services, required programs, GPUs.

watch lives as long as the box and stays small: what the banner needs comes and goes with a child
(`announce`), and so does whatever asks the driver (`gpus`).  It survives what it meets.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from launcher.box.run_dir import read_value, tell_init
from launcher.model import run_files
from launcher.model.watch import Probe, WatchTarget
from launcher.process.fork import fork_to_answer, hear_of_broken_pipes, write_all
from launcher.process.tree import signal_name
from launcher.supervise import programs
from launcher.watch import health, listening_ports, news, ready
from launcher.watch.gpu_record import GpuRecord, from_json
from launcher.watch.gpus import GpuWatch
from launcher.watch.host_key import LateHostKey
from launcher.watch.idle import IdleWatch, Looks
from launcher.watch.memory import MemoryWatch
from launcher.watch.news import SUPERVISE

Say = Callable[[str], None]

_UNWRITTEN = "so the box counts as unhealthy; make room there: df -h"
_BLIND = "it cannot look at the services; why: launcher logs watch"
_QUESTIONS_EVERY = 30.0  # seconds; each costs sshd a process
_ANNOUNCERS = 3  # one after the other, where the kernel kills them
_TRY = "try it: launcher doctor"
_MOST_TROUBLES = 20  # different ones: more are not worth the memory to tell them from old ones


def watch_box(run_dir: str, say: Say) -> None:
    """Never returns: ends with the signal that stops the box.

    Raises BadSetting where no box runs.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing to finish, nothing to report
    box = read_value(WatchTarget, run_files.WATCH, run_dir)
    watch = Watch(box, say)
    # Where it is there, we were restarted, and it is in the log.
    if not os.path.exists(f"{run_dir}/{run_files.BANNER}"):
        watch.announce()
    watch.watch_gpus()
    while True:
        watch.turn()
        watch.wait()


class Watch:
    """What is known of the box, and what the log says of it."""

    def __init__(self, box: WatchTarget, say: Say) -> None:
        self._box = box
        self._say = say
        self._probes: Sequence[Probe] = ()
        self._gpus: GpuWatch | None = None
        self._next_look = 0.0
        self._troubles: set[str] = set()
        self._written = True
        self._next_question = 0.0
        self._unanswered: dict[str, str] = {}  # by service, what it said when it was last asked
        self._memory = MemoryWatch(box.place)
        self._idle = IdleWatch(box.idle_shutdown, box.started) if box.idle_shutdown else None
        self._host_key = LateHostKey(box.run_dir, box.rsa_host_key)
        self._use = Looks(box.jupyter, bool(box.gpus))
        self._ready_after = _known_before(box)
        self._announcer = 0  # pid of the child that printed the banner, while it looks deeper
        self._deeper: tuple[int, bytes] = (-1, b"")  # its pipe, and what was read of it already
        self._broken = box.at_start or str(_report_before(box).get("at_start") or "")

    # --- the start ---

    def announce(self) -> None:
        """Let a child print the banner, and report meanwhile how far the services are."""
        for _ in range(_ANNOUNCERS):
            end = self._let_announce()
            if end is None:
                break
            self._say(f"launcher: the box is not announced: its child was {end}; it is tried again")
        self._write()

    def _let_announce(self) -> str | None:
        """Return how the child ended where it did before it had printed the banner, or said why."""
        box, parent, say = self._box, os.getpid(), self._say
        self._announcer, reader = fork_to_answer(lambda to: _announce(box, parent, to, say))
        announced, unread, end = False, b"", None
        while not announced:
            self._write(starting=True)
            if not select.select([reader], [], [], health.INTERVAL)[0]:
                continue
            chunk = os.read(reader, 65536)
            if not chunk:
                end = _killed(os.waitpid(self._announcer, 0)[1])
                self._announcer = 0
                break
            *lines, unread = (unread + chunk).split(b"\n")
            while lines and not announced:
                found = json.loads(lines.pop(0))
                announced = found["announced"]
                self._probes = [Probe(*fields) for fields in found["probes"]]
            unread = b"\n".join([*lines, unread])
        if self._announcer:
            self._deeper = (reader, unread)
        else:
            os.close(reader)
        return end

    def _hear_deeper(self) -> None:
        """Take what the child found that has looked deeper, and ended."""
        reader, said = self._deeper
        os.set_blocking(reader, False)  # what it started may still hold the pipe
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(reader, 65536):
                said += chunk
        os.close(reader)
        for line in said.split(b"\n")[:-1]:  # whole ones: it may have been killed
            self._broken = self._broken or json.loads(line)["broken"]

    def watch_gpus(self) -> None:
        if self._box.gpus:
            known = _known_of_gpus(self._box)
            self._gpus = GpuWatch(self._box.run_dir, self._box.gpus, known, self._box.place)

    # --- the rest of the box's life ---

    def turn(self) -> None:
        """Do what is due; nothing that goes wrong here ends watch."""
        due = time.monotonic() >= self._next_look
        if due:
            self._next_look = time.monotonic() + health.INTERVAL
            if not self._attempt(self._look):
                self._probes = (Probe("watch", False, _BLIND),)
        if self._attempt(self._step_gpus) or due:
            self._write()
        if self._announcer:
            pid, status = os.waitpid(self._announcer, os.WNOHANG)
            if pid:
                self._announcer = 0
                self._hear_deeper()
            if pid and (end := _killed(status)):
                self._say(f"launcher: PyTorch was not tried: the child for it was {end}; {_TRY}")

    def _attempt(self, work: Callable[[], bool]) -> bool:
        """Return whether `work` has news; what it fails with is said once, and is no end."""
        try:
            return work()
        except Exception as err:
            trouble = f"{type(err).__name__}: {err}"
            if trouble not in self._troubles and len(self._troubles) < _MOST_TROUBLES:
                self._troubles.add(trouble)
                self._say(f"launcher: watch cannot look, and goes on: {trouble}")
            return False

    def wait(self) -> None:
        """Wait until something is due, or a child has an answer."""
        until, pipes = self._next_look, []
        if self._gpus:
            until = min(until, self._gpus.next_event)
            pipes = self._gpus.pipes
        select.select(pipes, [], [], max(0.0, until - time.monotonic()))

    def _look(self) -> bool:
        before = self._probes
        known = programs.read_programs(self._box.run_dir)
        probes = list(probe_services(self._box))
        if time.monotonic() >= self._next_question:
            self._next_question = time.monotonic() + _QUESTIONS_EVERY
            self._unanswered = ask_services(self._box)
        answered = news.with_answers(probes, self._unanswered)
        self._probes = tuple(news.with_programs(list(answered), known, self._box.anew))
        for line in news.changes(before, self._probes):
            self._say(line)
        if killed := self._memory.look():
            self._say(killed)
        self._host_key.look(self._say)
        if self._idle:
            warning, ends = self._idle.turn(time.monotonic(), self._use)
            if warning:
                self._say(warning)
            if ends:
                tell_init(self._box.run_dir, signal.SIGTERM)
        if self._gpus:
            self._gpus.glance()
        return True

    def _step_gpus(self) -> bool:
        lines = self._gpus.step() if self._gpus else []
        for line in lines:
            self._say(line)
        return bool(lines)

    def _write(self, *, starting: bool = False) -> None:
        path, started = f"{self._box.run_dir}/{run_files.HEALTH}", self._box.started
        probes = [*self._probes, *([self._gpus.probe] if self._gpus else [])]
        if self._ready_after is None and not starting and all(probe.ready for probe in probes):
            self._ready_after = round(time.monotonic() - started, 2)
        gpus = self._gpus.record.to_json() if self._gpus else None
        counts = {
            "memory_kills": self._memory.count,
            "ready_after": self._ready_after,
            "gpus": gpus,
            "at_start": self._broken,
            "more_memory": self._memory.more,
        }
        try:
            health.write_health(path, started, probes, starting=starting, counts=counts)
        except OSError as err:
            if self._written:
                self._say(f"launcher: cannot write {path}: {err.strerror}, {_UNWRITTEN}")
            self._written = False
        else:
            self._written = True


def _killed(status: int) -> str | None:
    """Return "killed by SIGKILL" of a wait status, or None where a child ended by itself."""
    return f"killed by {signal_name(os.WTERMSIG(status))}" if os.WIFSIGNALED(status) else None


def probe_services(box: WatchTarget) -> Iterator[Probe]:
    """Yield how the services are, cheaply enough for every few seconds."""
    if box.jupyter:
        yield ready.probe_jupyter(box.jupyter)
    if box.ssh:
        # sshd binds as who we are; whoever else has its port has its clients.
        fault = listening_ports.fault(box.ssh.port, box.ssh.listen, os.geteuid())
        yield Probe("ssh", fault is None, fault or "listens")


def ask_services(box: WatchTarget) -> dict[str, str]:
    """Return what those say that are asked now and then: why they do not answer, by service."""
    faults = {
        "ssh": ready.greeting_fault(box.ssh) if box.ssh else None,
        SUPERVISE: ready.supervise_fault(f"{box.run_dir}/{run_files.SUPERVISOR_SOCKET}"),
    }
    return {service: fault for service, fault in faults.items() if fault}


def _announce(box: WatchTarget, parent: int, writer: int, say: Say) -> int:
    """Print the banner, and tell `writer` meanwhile what is ready.  Runs in a child."""
    hear_of_broken_pipes()

    def tell(probes: Sequence[Probe], announced: bool) -> None:
        fields = [(probe.service, probe.ready, probe.detail) for probe in probes]
        line = json.dumps({"probes": fields, "announced": announced})
        write_all(writer, line.encode() + b"\n")

    try:
        from launcher.watch import announce

        broken = announce.announce_box(box, parent, say, tell)
        write_all(writer, json.dumps({"broken": broken}).encode() + b"\n")
    except Exception as err:
        say(f"launcher: the box is not announced: {type(err).__name__}: {err}")
    return 0


def _report_before(box: WatchTarget) -> Mapping[str, object]:
    """Return what a watch before this one has reported of this box."""
    report = health.read_health(box.run_dir)
    return report if report and report.get("started") == box.started else {}


def _known_before(box: WatchTarget) -> float | None:
    """Return after how many seconds the box was ready, where that has been seen."""
    found = _report_before(box).get("ready_after")
    return found if isinstance(found, float) else None


def _known_of_gpus(box: WatchTarget) -> GpuRecord:
    """Return what a watch before this one has said of them."""
    return from_json(_report_before(box).get("gpus"))
