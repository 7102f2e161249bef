"""health.json: what watch knows, for whoever asks; missing, foreign or old means unhealthy."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence

from launcher.errors import BadSetting
from launcher.model import Probe, RenderedFile

INTERVAL = 5.0  # seconds between two looks of watch
_STALE = 3 * INTERVAL + 5  # a busy machine may be late; a dead watch is not


def write(path: str, started: float, probes: Sequence[Probe]) -> None:
    """Replace the report.  A full /run leaves the old one, which grows stale: unhealthy."""
    from launcher import service

    content = {
        "started": started,
        "stamp": time.monotonic(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "healthy": all(probe.ready for probe in probes),
        "services": {probe.service: probe.detail for probe in probes},
    }
    with contextlib.suppress(BadSetting):
        service.write([RenderedFile(path, json.dumps(content), 0o644, -1, -1)])


def read(path: str) -> Mapping[str, object] | None:
    """Return the report, or None where it is missing or not one."""
    try:
        with open(path, encoding="utf-8") as stream:
            report = json.load(stream)
    except (OSError, ValueError):
        return None
    return report if isinstance(report, dict) else None


def judge(report: Mapping[str, object] | None, now: float, boot: str) -> str | None:
    """Return why the box is not healthy, or None where it is.  Pure.

    Args:
        report: what health.json held; None where it is missing or unreadable.
        now: CLOCK_MONOTONIC, seconds.
        boot: this kernel's boot id.
    """
    if report is None:
        return "not ready yet: there is no health report"
    if report.get("boot") != boot:
        return "the health report is of another boot"
    stamp = report.get("stamp")
    if not isinstance(stamp, float) or not 0 <= now - stamp <= _STALE:
        return "the health report is old: watch has stopped"
    if report.get("healthy") is not True:
        services = report.get("services")
        seen = services.items() if isinstance(services, dict) else ()
        return ", ".join(f"{name}: {detail}" for name, detail in seen) or "unhealthy"
    return None


def check(run_dir: str) -> str | None:
    """Return why the box is not healthy, or None: one file, and whether watch still lives."""
    report = read(f"{run_dir}/health.json")
    reason = judge(report, time.monotonic(), _boot_id())
    if _is_full(run_dir):
        return f"{run_dir} is full: nothing new can start; make room (what is large: du -ax /run)"
    if reason is None and report is not None and not os.path.exists(f"/proc/{report.get('pid')}"):
        return "watch is gone"
    return reason


def _is_full(directory: str) -> bool:
    try:
        room = os.statvfs(directory)
    except OSError:
        return False
    return bool((room.f_blocks and not room.f_bavail) or (room.f_files and not room.f_favail))


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
