"""What is wrong with the GPUs of a running box, if anything: the whole look, in a forked child.

It takes a fifth of a second of CPU, so it comes after a roll call that went wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from launcher import checks
from launcher.box.run_dir import read_value
from launcher.checks.facts.how_to_run import anew, fit
from launcher.detect import detect, nvml
from launcher.doctor import collect
from launcher.model import run_files
from launcher.model.evidence import Evidence
from launcher.model.machine import DriverFailure, Gpu, GpuReport, Machine
from launcher.model.plan import Finding
from launcher.text import text


def look_for_loss(
    run_dir: str, environ: Mapping[str, str], failure: DriverFailure | None = None
) -> bytes:
    """Return what is lost, as JSON: `detail` for the health report, `line` for the log.

    `detail` is "" where all is as at the start.

    Args:
        environ: the container's own, which the checks read.
        failure: how the driver failed to answer; then it is not asked again.

    Raises BadSetting where the machine of the start cannot be read.
    """
    start = read_value(Machine, run_files.MACHINE, run_dir)
    now = GpuReport(failure=failure) if failure else _ask()
    found = start._replace(report=now, hardware=detect.read_hardware())
    lost = find_loss(start, found, environ)
    if lost is None:
        back = f"launcher: the GPUs are back: {text.gpu_summary(start, None)}"
        return json.dumps({"detail": "", "line": back}).encode()
    detail = f"{lost.what}; fix: {lost.fix}"
    line = f"launcher: GPUs are lost: {lost.what}: {lost.means}; fix: {lost.fix}"
    return json.dumps({"detail": detail, "line": line}).encode()


def _ask() -> GpuReport:
    now = nvml.read_report()
    return now._replace(nodes=detect.open_nodes(control_only=now.failure is None))


def find_loss(start: Machine, now: Machine, inherited: Mapping[str, str]) -> Finding | None:
    """Return what is broken now and was not at the start.

    Args:
        inherited: the container's own environment, not the plan's: that names what is lost.
    """
    environ = collect.relevant(dict(inherited))
    seen = Evidence(now, environ, worked_before=True)
    if changed := compare(start.report, now.report, anew(seen)):
        return changed._replace(fix=fit(changed.fix, now.host))
    before = checks.judge(Evidence(start, environ)).failure
    found = checks.judge(seen).failure
    if found and (before is None or (found.id, found.what) != (before.id, before.what)):
        return found
    if (failed := now.report.failure) and not start.report.failure and not found:
        return Finding(
            "gpus.gone",
            f"NVML does not start any more ({failed.reason})",
            "programs on the GPUs fail, and new ones get none",
            f"on the host: nvidia-smi; sudo dmesg | grep -i -e nvrm -e xid; then {anew(seen)}",
        )
    return None


def compare(at_start: GpuReport, now: GpuReport, anew: str) -> Finding | None:
    """Return what was lost since the start, or None; more GPUs than then are no loss.

    Args:
        anew: how this container is created once more, which plans with what is there then.
    """
    if now.failure or len(now.lost) > len(at_start.lost):
        return None
    there = {gpu.uuid: gpu for gpu in now.gpus}
    gone = [gpu for gpu in at_start.gpus if gpu.uuid not in there]
    if gone:
        return Finding(
            "gpus.gone",
            f"{_names(gone)} not listed any more: NVML counts {len(now.gpus)}, "
            f"{len(at_start.gpus)} at the start",
            "programs on it fail, and those that start now find the others under other numbers",
            f"on the host: nvidia-smi -L; sudo dmesg | grep -i -e nvrm -e xid; then {anew}",
        )
    closed = [gpu for gpu in at_start.gpus if _is_closed(gpu, there[gpu.uuid])]
    if closed:
        codes = ", ".join(f"GPU {gpu.index}: NVML {there[gpu.uuid].mig_fault}" for gpu in closed)
        return Finding(
            "gpus.mig_closed",
            f"MIG instances are there and cannot be opened ({codes})",
            "programs in them fail, and new ones get no GPU",
            f"on the host: nvidia-smi -L; sudo dmesg | grep -i -e nvrm -e xid; then {anew}",
        )
    cut = [text for gpu in at_start.gpus if (text := _recut(gpu, there[gpu.uuid]))]
    if cut:
        return Finding(
            "gpus.mig_changed",
            "; ".join(cut),
            "CUDA_VISIBLE_DEVICES names what is not there, so new programs get no GPU",
            f"to use what is there now, {anew}",
        )
    return None


def _names(gpus: list[Gpu]) -> str:
    named = ", ".join(f"GPU {gpu.index} ({gpu.name}, {gpu.place})" for gpu in gpus)
    return f"{named} {'is' if len(gpus) == 1 else 'are'}"


def _is_closed(start: Gpu, now: Gpu) -> bool:
    return now.mig_fault is not None and not set(start.mig_uuids) <= set(now.mig_uuids)


def _recut(start: Gpu, now: Gpu) -> str | None:
    if now.mig_enabled is None:  # it did not tell this time
        return None
    if bool(start.mig_enabled) != now.mig_enabled:
        return f"MIG mode of GPU {start.index} was turned {'on' if now.mig_enabled else 'off'}"
    missing = [uuid for uuid in start.mig_uuids if uuid not in now.mig_uuids]
    if not missing:
        return None
    count = len(start.mig_uuids)
    return (
        f"MIG of GPU {start.index} was reconfigured: {len(missing)} of {count} instances are gone"
    )
