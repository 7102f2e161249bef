"""Look at the GPUs every so often, and hear of them meanwhile, in children: the driver may hang.

watch itself holds no handle of the driver's: one would survive the loss that is looked for, and
keep the host from resetting the GPU.  Who listens does, and is ended where that matters.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from launcher.model.watch import GpusAtStart, Probe
from launcher.watch.child import Child
from launcher.watch.gpu_listener import Listener
from launcher.watch.gpu_look import control_fault, judge, look
from launcher.watch.gpu_record import GpuRecord
from launcher.watch.news import GpuNews

NAME = "gpus"
_TO_JUDGE = 10.0  # seconds for the checks, which ask nobody
_GRACE = 1.0  # seconds for a kill; what is there after that is held by the kernel


def _load_what_children_need() -> None:
    """Import once what each look, and who listens, would import for itself.

    It is shared memory then, and a third of what a look costs.  The driver's library is none of it.
    """
    import ctypes  # noqa: F401

    from launcher.watch import gpu_events, roll_call, soundness  # noqa: F401


class GpuWatch:
    """Knows what the log says of the GPUs, and when to look again."""

    def __init__(
        self, run_dir: str, start: GpusAtStart, record: GpuRecord | None = None,
        place: str = "docker",
    ) -> None:  # fmt: skip
        """Watch those of the start; `record` is what a watch before this one knew."""
        _load_what_children_need()
        self.record = record or GpuRecord()
        self._run_dir = run_dir
        self._start = start
        self._news = GpuNews(self.record.lost)
        self._fault = ""
        self._due = 0.0
        self._child: Child | None = None
        self._asks = False  # the child asks the driver; else it judges that there was no answer
        self._stuck: Child | None = None  # a child that the kernel holds
        self._listener = Listener(start, place)
        self._awake: set[str] = set()  # UUIDs of those that may be held open
        self._memory: Mapping[str, Any] = {}  # of soundness

    @property
    def probe(self) -> Probe:
        why = "; ".join(filter(None, (self._news.said, *self.record.resets.values())))
        return Probe(NAME, not why, why or "as at the start")

    @property
    def pipes(self) -> list[int]:
        """Return what becomes readable when a child has something to say."""
        own = [self._child.pipe] if self._child else []
        return own if self._listener.pipe is None else [*own, self._listener.pipe]

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

    def step(self) -> list[str]:
        """Go on without waiting; return lines for the log where there is news.

        Raises RuntimeError or OSError where a look failed for a reason that is not the driver's.
        """
        heard = self._listener.read()
        for one in heard:
            self.record = self.record.with_xid(one.gpu, one.code, one.count, one.reset)
        if any(one.reset for one in heard):
            self._due = 0.0  # some may be lost, too
            self._listen()
        lines = [one.line for one in heard if one.line]
        return [*lines, *self._look(time.monotonic())]

    # --- what is heard ---

    def _listen(self, awake: Iterable[str] | None = None) -> None:
        """Hear those GPUs that nobody needs to reset; none while some are lost.

        Args:
            awake: the UUIDs of those that may be held open; None = as before.
        """
        if awake is not None:
            self._awake = set(awake)
        wanted = () if self._news.said else tuple(
            gpu for gpu in self._start.listed
            if gpu.uuid in self._awake and gpu.index not in self.record.resets
        )  # fmt: skip
        self._listener.hear(wanted, self.record.kinds)

    # --- what is looked at ---

    def _look(self, now: float) -> list[str]:
        if self._child:
            return self._go_on(self._child, now)
        if now < self._due:
            return []
        self._due = now + self._start.interval  # where not even a child can be started, too
        if self._stuck and not self._stuck.has_ended():  # a second one would hang beside it
            return []
        self._stuck = None
        known = {"recovering": bool(self._news.said), "memory": self._memory,
                 "resets": sorted(self.record.resets)}  # fmt: skip
        work = partial(look, self._run_dir, self._start, known)
        self._child, self._asks = Child(work, now + self._start.patience), True
        return []

    def _go_on(self, child: Child, now: float) -> list[str]:
        ended = child.has_ended()
        if not ended and now < child.deadline:
            return []
        if not ended and not child.killed:
            child.kill(now + _GRACE)
            return []
        child.close()
        self._child, self._due = None, now + self._start.interval
        if not ended:
            self._stuck = child
        if self._asks and (child.killed or child.crash):
            self._ask_why(child, now)
            return []
        if child.killed or child.code:
            raise RuntimeError(f"cannot look at the GPUs: {child.answer.decode() or child.code}")
        return self._hear(json.loads(child.answer), now)

    def _ask_why(self, child: Child, now: float) -> None:
        """Let the checks say what a driver means that hangs or crashes."""
        kind, reason = "hung", f"no answer within {self._start.patience:g} s"
        if not child.killed:
            kind, reason = "crashed", f"killed by {child.crash}"
        work = partial(judge, self._run_dir, self._start, kind, reason)
        self._child, self._asks = Child(work, now + _TO_JUDGE), False

    def _hear(self, told: Mapping[str, Any], now: float) -> list[str]:
        before, self._news = self._news.said, self._news.see(told["detail"])
        if self._stuck:  # it is still silent, which is as good as a second look
            self._news = self._news.see(told["detail"])
        # A driver that was silent is asked again at once: it may have been slow alone.
        at_once = self._news.suspected is not None and not self._asks
        self._due = now + (0 if at_once else self._news.pause(self._start.interval))
        lines = [str(told["line"])] if self._news.said != before else []
        if self._news.said != before:
            self.record = self.record.with_loss(self._news.said)
        if "awake" in told:
            self._memory = told["memory"]
            self.record = self.record.with_resets(told["resets"])
            self.record = self.record.with_troubles(told["troubles"], told["holding"])
            lines += told["lines"]
        self._listen(told.get("awake"))
        return lines
