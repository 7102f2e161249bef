"""What `launcher status` prints: what runs, since when, how it ended last, what mends it.  Pure."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.model.printable import printable
from launcher.model.services import GROUP, service_of
from launcher.supervise.programs import Program
from launcher.text.text import WIDTH, paint, wrap
from launcher.watch.news import not_running

_NAME, _DETAIL = 14, 25  # columns
_HEAD = f" {'PROGRAM':<{_NAME}} {'STATE':<8} {'PID':>7}  {'FOR':<10} {'RESTARTS':>8}"
_BOLD, _GREEN, _YELLOW, _RED = "1", "1;32", "1;33", "1;31"
_NOT_YET = "not ready yet: "


@dataclass(frozen=True)
class Seen:
    """What the files of a running box say, and when they were read."""

    reason: str | None  # why it is not healthy, as health.why_unhealthy judges
    report: Mapping[str, Any]  # health.json; {} = none
    programs: Mapping[str, Program]
    now: float  # CLOCK_MONOTONIC, seconds

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
