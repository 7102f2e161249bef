"""What `launcher status` prints: what runs, since when, how it ended last, what mends it.  Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from launcher.model.job import Traffic
from launcher.model.printable import printable
from launcher.model.services import GROUP, service_of
from launcher.supervise.programs import Program
from launcher.text.text import WIDTH, paint, wrap
from launcher.watch.concerns import concerns
from launcher.watch.news import not_running
from launcher.watch.seen import Job, Seen, age_in_words

_NAME, _DETAIL = 14, 25  # columns
_HEAD = f" {'PROGRAM':<{_NAME}} {'STATE':<8} {'PID':>7}  {'FOR':<10} {'RESTARTS':>8}"
_BOLD, _GREEN, _YELLOW, _RED = "1", "1;32", "1;33", "1;31"


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


def as_json(seen: Seen) -> str:
    return json.dumps(document(seen), indent=2)


def document(seen: Seen) -> dict[str, Any]:
    """Return what programs get."""
    return {
        "state": seen.state,
        "healthy": seen.reason is None,
        "reason": seen.reason,
        "summary": seen.summary,
        "uptime": seen.uptime,
        "ready_after": seen.report.get("ready_after"),
        "memory_kills": seen.memory_kills,
        "xids": seen.xids,
        "troubles": seen.troubles,
        "services": seen.services,
        "concerns": [concern._asdict() for concern in concerns(seen)],
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
    code = {"healthy": _GREEN, "unhealthy": _RED}.get(seen.state, _YELLOW)
    first, *rest = textwrap.wrap(seen.summary, WIDTH, subsequent_indent="  ")
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


def _shorten(name: str, width: int) -> str:
    name = printable(name)
    return name if len(name) <= width else f"{name[: width - 1]}…"
