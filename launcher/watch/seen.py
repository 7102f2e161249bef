"""What a running box is like, as its files say.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launcher.model.job import RunningJob, Traffic
from launcher.model.named_tuple import NamedTuple
from launcher.model.printable import printable
from launcher.supervise.programs import Program
from launcher.watch.health import degraded

_NOT_YET = "not ready yet: "


class Job(NamedTuple):
    """A job of torchrun's, and what goes through its interfaces."""

    pid: int
    job: RunningJob
    total: tuple[Traffic, ...]  # bytes since it began
    rates: tuple[Traffic, ...]  # bytes a second, now


class Seen(NamedTuple):
    """What the files of a running box say, and when they were read."""

    reason: str | None  # why it is not healthy, as health.why_unhealthy judges
    report: Mapping[str, Any]  # health.json; {} = none
    programs: Mapping[str, Program]
    now: float  # CLOCK_MONOTONIC, seconds
    jobs: tuple[Job, ...] = ()

    @property
    def state(self) -> str:
        """Return "healthy"; "degraded": as it was at the start, when something was broken; …"""
        if self.reason is None:
            return "degraded" if degraded(self.report) else "healthy"
        return "starting" if self.reason.startswith(_NOT_YET) else "unhealthy"

    @property
    def services(self) -> Mapping[str, Mapping[str, Any]]:
        return _tables(self.report.get("services"))

    @property
    def memory_kills(self) -> int:
        """How many processes the kernel killed for want of memory."""
        count = self.report.get("memory_kills")
        return count if isinstance(count, int) else 0

    @property
    def xids(self) -> Mapping[str, Mapping[str, int]]:
        """How often each Xid came, by the index of the GPU."""
        return _tables(self._gpus.get("xids"))

    @property
    def troubles(self) -> Mapping[str, Mapping[str, str]]:
        """What of each GPU got worse and is so still, by the id of its check."""
        return _tables(self._gpus.get("troubles"))

    @property
    def _gpus(self) -> Mapping[str, Any]:
        found = self.report.get("gpus")
        return found if isinstance(found, dict) else {}

    @property
    def more_memory(self) -> str:
        """How the box is given more, where something was killed for want of it."""
        return str(self.report.get("more_memory") or "")

    @property
    def uptime(self) -> float | None:
        started = self.report.get("started")
        return self.now - started if isinstance(started, float) else None

    @property
    def summary(self) -> str:
        """How the box is, in one line that begins with its state."""
        if self.reason is not None:
            return f"{self.state}: {printable(self.reason.removeprefix(_NOT_YET))}"
        up = f", up {age_in_words(self.uptime)}" if self.uptime is not None else ""
        why = degraded(self.report).removeprefix(self.state)
        return f"{self.state}{up}{f',{printable(why)}' if why else ''}"


def _tables(found: object) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of a report's table that are tables themselves; who wrote it may err."""
    entries = found.items() if isinstance(found, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def age_in_words(seconds: float | None) -> str:
    """Return "12 s", "3 min", "3 h 12 min", "4 d 3 h"."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"
