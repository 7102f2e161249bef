"""What is wrong with the GPUs of a running box, if anything: the whole look, in a forked child.

It takes a fifth of a second of CPU, so it comes after a roll call that went wrong.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from launcher import checks, codec, detect, gpu_changes, nvml, probe, report
from launcher.checks.how_to_run import anew
from launcher.evidence import Evidence
from launcher.machine import DriverFailure, GpuReport, Machine
from launcher.model import Finding, Plan


def look(run_dir: str, failure: DriverFailure | None = None) -> bytes:
    """Return what is lost, as JSON: `detail` for the health report, `line` for the log.

    `detail` is "" where all is as at the start.

    Args:
        failure: how the driver failed to answer; then it is not asked again.

    Raises OSError, ValueError, TypeError or KeyError where the box's files cannot be read.
    """
    start = codec.from_json(Machine, Path(run_dir, "machine.json").read_text())
    plan = codec.from_json(Plan, Path(run_dir, "plan.json").read_text())
    now = GpuReport(failure=failure) if failure else _ask()
    lost = find_loss(start, replace(start, report=now, hardware=detect.read_hardware()), plan)
    if lost is None:
        back = f"launcher: the GPUs are back: {report.gpu_summary(start, None)}"
        return json.dumps({"detail": "", "line": back}).encode()
    detail = f"{lost.what}; fix: {lost.fix}"
    line = f"launcher: GPUs are lost: {lost.what}: {lost.means}; fix: {lost.fix}"
    return json.dumps({"detail": detail, "line": line}).encode()


def _ask() -> GpuReport:
    now = nvml.read_report()
    return replace(now, nodes=detect.open_nodes(control_only=now.failure is None))


def find_loss(start: Machine, now: Machine, plan: Plan) -> Finding | None:
    """Return what is broken now and was not at the start."""
    environ = probe.relevant(dict(plan.inherited))  # not the plan's: it names what is lost
    seen = Evidence(now, environ, worked_before=True)
    if changed := gpu_changes.compare(start.report, now.report, anew(seen)):
        return changed
    before = checks.judge(Evidence(start, environ)).failure
    found = checks.judge(seen).failure
    if found and (before is None or (found.id, found.what) != (before.id, before.what)):
        return found
    return None
