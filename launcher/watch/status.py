"""What `launcher status` prints: what runs, since when, how it ended last, what mends it.  Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from launcher.model.job import RunningJob, Traffic
from launcher.model.named_tuple import NamedTuple
from launcher.model.printable import printable
from launcher.model.services import GROUP, service_of
from launcher.supervise.programs import Program
from launcher.text.text import WIDTH, paint, wrap
from launcher.watch.news import not_running

_NAME, _DETAIL = 14, 25  # columns
_HEAD = f" {'PROGRAM':<{_NAME}} {'STATE':<8} {'PID':>7}  {'FOR':<10} {'RESTARTS':>8}"
_BOLD, _GREEN, _YELLOW, _RED = "1", "1;32", "1;33", "1;31"
_NOT_YET = "not ready yet: "


class Job(NamedTuple):
    """A job of torchrun's, and what goes through its interfaces."""

    pid: int
    job: RunningJob
    total: tuple[Traffic, ...]  # bytes since it began
    rates: tuple[Traffic, ...]  # bytes a second, now


def moved(
    earlier: Sequence[Traffic], later: Sequence[Traffic], seconds: float = 1.0
) -> list[Traffic]:
    """Return what went through between two looks, a second."""
    known = {one.name: one for one in earlier}
    return [
        Traffic(
            one.name,
            int((one.received - known[one.name].received) / seconds),
            int((one.sent - known[one.name].sent) / seconds),
        )
        for one in later
        if one.name in known
    ]


class Seen(NamedTuple):
    """What the files of a running box say, and when they were read."""

    reason: str | None  # why it is not healthy, as health.why_unhealthy judges
    report: Mapping[str, Any]  # health.json; {} = none
    programs: Mapping[str, Program]
    now: float  # CLOCK_MONOTONIC, seconds
    jobs: tuple[Job, ...] = ()

    @property
    def state(self) -> str:
        if self.reason is None:
            return "healthy"
        return "starting" if self.reason.startswith(_NOT_YET) else "unhealthy"

    @property
    def services(self) -> Mapping[str, Mapping[str, Any]]:
        found = self.report.get("services")
        entries = found.items() if isinstance(found, dict) else ()
        return {name: entry for name, entry in entries if isinstance(entry, dict)}

    @property
    def memory_kills(self) -> int:
        """How many processes the kernel killed for want of memory."""
        count = self.report.get("memory_kills")
        return count if isinstance(count, int) else 0

    @property
    def xids(self) -> Mapping[str, Mapping[str, int]]:
        """How often each Xid came, by the index of the GPU."""
        found = self.report.get("gpus")
        xids = found.get("xids") if isinstance(found, dict) else None
        entries = xids.items() if isinstance(xids, dict) else ()
        return {str(gpu): codes for gpu, codes in entries if isinstance(codes, dict)}

    @property
    def troubles(self) -> Mapping[str, Mapping[str, str]]:
        """What of each GPU got worse and is so still, by the id of its check."""
        found = self.report.get("gpus")
        troubles = found.get("troubles") if isinstance(found, dict) else None
        entries = troubles.items() if isinstance(troubles, dict) else ()
        return {str(gpu): known for gpu, known in entries if isinstance(known, dict)}

    @property
    def uptime(self) -> float | None:
        started = self.report.get("started")
        return self.now - started if isinstance(started, float) else None


def as_json(seen: Seen) -> str:
    return json.dumps(document(seen), indent=2)


def document(seen: Seen) -> dict[str, Any]:
    """Return what programs get."""
    return {
        "state": seen.state,
        "healthy": seen.reason is None,
        "reason": seen.reason,
        "uptime": seen.uptime,
        "ready_after": seen.report.get("ready_after"),
        "memory_kills": seen.memory_kills,
        "xids": seen.xids,
        "troubles": seen.troubles,
        "services": seen.services,
        "jobs": jobs_as_data(seen.jobs, seen.now),
        "programs": {
            name: {**program._asdict(), "restarts": _restarts(program), "for": _age(program, seen)}
            for name, program in seen.programs.items()
        },
    }


def as_text(seen: Seen, color: bool = False) -> str:
    """Return lines of 80 columns, readable without colour."""
    lines = [*_first_lines(seen, color), ""]
    if seen.programs:
        lines.append(paint(_HEAD, _BOLD, color))
    for name, program in sorted(seen.programs.items(), key=lambda item: _order(*item)):
        lines += _program_lines(name, program, seen, color)
    probed = {service_of(name) for name in seen.programs}
    for name, entry in seen.services.items():
        if name not in probed:  # the GPUs; all of them, where supervise could write nothing
            state = "well" if entry.get("ready") is True else "NOT WELL"
            lines += _row(name, state, str(entry.get("detail")), color)
    for known in seen.troubles.values():
        for words in known.values():
            lines += _row("trouble", "", str(words), color)
    lines += job_lines(seen.jobs, seen.now, color)
    if seen.xids:
        lines += _row("xids", "", f"{'; '.join(_xids(seen))}: launcher logs watch", color)
    if count := seen.memory_kills:
        what = "1 process was" if count == 1 else f"{count} processes were"
        lines += _row("memory", "", f"{what} killed for want of it: launcher logs watch", color)
    return "\n".join(lines).rstrip()


def _xids(seen: Seen) -> Iterator[str]:
    """Yield "GPU 3: Xid 13 ×5, 31 ×1"."""
    for gpu, codes in seen.xids.items():
        yield f"GPU {gpu}: Xid {', '.join(f'{code} ×{count}' for code, count in codes.items())}"


def jobs_as_data(jobs: Sequence[Job], now: float) -> list[dict[str, Any]]:
    """Return what programs get of the jobs that run here."""
    return [
        {
            "pid": one.pid, "for": now - one.job.began,
            **{name: value for name, value in one.job._asdict().items() if name in _PUBLIC},
            "network": {
                total.name: {
                    "received": total.received, "sent": total.sent,
                    "received_per_second": rate.received, "sent_per_second": rate.sent,
                }
                for total, rate in zip(one.total, one.rates, strict=False)
            },
            "deaths": [
                {"who": death.who, "by": death.by, "ago": now - death.at}
                for death in one.job.deaths
            ],
        }
        for one in jobs
    ]  # fmt: skip


_PUBLIC = ("nodes", "rank", "processes", "hostname", "master", "port", "platform")


def job_lines(jobs: Sequence[Job], now: float, color: bool = False) -> Iterator[str]:
    """Yield a row for each job that runs here."""
    for one in jobs:
        job = one.job
        count = f"{job.processes} process{'es' if job.processes > 1 else ''}"
        said = f"on this machine: {count}"
        if job.nodes > 1:
            who = f", {job.platform}" if job.platform else ""
            said = f"{job.shown}{who}: {count}, master {job.master}:{job.port}"
        numbers = (str(one.pid), age_in_words(now - job.began), "")
        yield from _row("torchrun", "running", said, color, numbers)
        for total, rate in zip(one.total, one.rates, strict=False):
            yield (
                f"   {printable(total.name)}: received {_size(total.received)}, sent "
                f"{_size(total.sent)}; now {_size(rate.received)}/s in, {_size(rate.sent)}/s out"
            )
        for death in job.deaths:
            said = f"{age_in_words(now - death.at)} ago {death.who} was killed by {death.by}"
            yield from wrap("   ", printable(said), "   ")


def _size(count: float) -> str:
    """Return "1.2 GB": powers of ten, as networks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _first_lines(seen: Seen, color: bool) -> Iterator[str]:
    code = {"healthy": _GREEN, "starting": _YELLOW, "unhealthy": _RED}[seen.state]
    if seen.reason is None:
        up = f", up {age_in_words(seen.uptime)}" if seen.uptime is not None else ""
        yield paint("healthy", code, color) + up
        return
    why = seen.reason.removeprefix(_NOT_YET)
    first, *rest = textwrap.wrap(f"{seen.state}: {printable(why)}", WIDTH, subsequent_indent="  ")
    yield first.replace(seen.state, paint(seen.state, code, color), 1)
    yield from rest


def _program_lines(name: str, program: Program, seen: Seen, color: bool) -> Iterator[str]:
    probe = seen.services.get(service_of(name), {})
    down = not_running(name, program)
    failed = down or (None if probe.get("ready", True) else str(probe.get("detail")))
    ended = f"before: {program.end}" if program.end else ""
    detail = failed or "; ".join(filter(None, (str(probe.get("detail", "")), ended)))
    if not program.required and name != "watch":  # which is neither: it is never given up
        detail = f"optional{f'; {detail}' if detail else ''}"
    pid, age = str(program.pid or "-"), age_in_words(_age(program, seen))
    numbers = (pid, age, str(_restarts(program)))
    yield from _row(name, program.state, detail, color, numbers)
    if (
        failed
        and "fix: " not in failed
        and program.state not in ("starting", "stopping", "stopped")
    ):
        short = _shorten(name, 40)
        fix = f"launcher restart {short}; what it said: launcher logs {short}"
        yield from wrap("   ", f"fix: {fix}", "   ")


def _row(
    name: str, state: str, detail: str, color: bool, numbers: tuple[str, str, str] = ("", "", "")
) -> Iterator[str]:
    """Yield a row, and its detail below it where that is long; `numbers`: pid, age, restarts."""
    detail = printable(detail)
    pid, age, restarts = numbers
    short = detail if len(detail) <= _DETAIL else ""
    code = {"running": _GREEN, "well": _GREEN, "starting": _YELLOW}.get(state, _RED)
    cells = f"{pid:>7}  {age:<10} {restarts:>8}  {short}"
    yield (
        f" {_shorten(name, _NAME):<{_NAME}} {paint(f'{state:<8}', code, color)} {cells}"
    ).rstrip()
    if not short:
        yield from wrap("   ", detail, "   ")


def _order(name: str, program: Program) -> tuple[bool, str, str]:
    """Ours first, then the others by group."""
    return program.group != GROUP, program.group, name


def _restarts(program: Program) -> int:
    return max(0, program.starts - 1)


def _age(program: Program, seen: Seen) -> float:
    return max(0.0, seen.now - program.since)


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


def _shorten(name: str, width: int) -> str:
    name = printable(name)
    return name if len(name) <= width else f"{name[: width - 1]}…"
