"""Say what was found, planned and seen, in text for people.  Pure.

80 columns, readable without colour; every problem says what is wrong, what it means for
you, and how to mend it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from launcher import checks
from launcher.machine import Gpu, Machine
from launcher.model import Finding, Plan, Probe

WIDTH = 80
GIB = 1 << 30
BOLD, DIM, GREEN, YELLOW = "1", "2", "1;32", "1;33"


# --- one line ------------------------------------------------------------------------------


def first_line(machine: Machine) -> str:
    """Return what was found, the moment it is known."""
    return f"launcher: {gpu_summary(machine)}; starting the services …"


def summary_lines(machine: Machine, plan: Plan) -> list[str]:
    """Return command mode's one line, for stderr."""
    visible = planned(plan, "CUDA_VISIBLE_DEVICES")
    seen = f"; CUDA_VISIBLE_DEVICES={shorten(visible, 40)}" if visible is not None else ""
    return [f"launcher: {gpu_summary(machine)}{seen}"]


def gpu_summary(machine: Machine) -> str:
    gpus = machine.report.gpus
    if not gpus:
        finding = checks.diagnose(checks.Evidence(machine.report, machine.hardware, {}))
        return f"no usable GPU ({finding.what if finding else 'none found'})"
    kinds = dict.fromkeys(gpu.name for gpu in gpus)
    names = ", ".join(f"{sum(g.name == kind for g in gpus)} × {kind}" for kind in kinds)
    lost = f", {len(machine.report.lost)} lost" if machine.report.lost else ""
    return f"{names}{lost}, {_driver(machine)}"


def verdict_line(result: Mapping[str, object], expected: int) -> str:
    """Return what PyTorch did on the devices: `result` is what guest/verify.py printed."""
    if not result.get("torch"):
        return f"launcher: PyTorch cannot be used: {result.get('error')}"
    name = f"launcher: PyTorch {result['torch']}"
    if result.get("cuda") is None:
        return f"{name}: a build without CUDA, computes on the CPU"
    failures = result.get("failures")
    assert isinstance(failures, Mapping)
    devices = int(str(result["devices"]))
    if result.get("error") and (expected or devices):
        return f"{name}: CUDA works on 0 of {expected} devices: {result['error']}"
    if not devices and not expected:
        return f"{name}: no CUDA device, computes on the CPU"
    line = f"{name}: CUDA works on {devices - len(failures)} of {max(devices, expected)} devices"
    return line + "".join(f"; cuda:{index}: {why}" for index, why in failures.items())


def changes(before: Sequence[Probe], after: Sequence[Probe]) -> Iterator[str]:
    """Yield a line for every service that was lost or came back."""
    was = {probe.service: probe.ready for probe in before}
    for probe in after:
        if was.get(probe.service, True) and not probe.ready:
            yield f"launcher: {probe.service} is not ready: {probe.detail}"
        elif probe.ready and not was.get(probe.service, True):
            yield f"launcher: {probe.service} is ready again"


def finding_lines(finding: Finding, color: bool = False) -> list[str]:
    first, *rest = wrap(" ! ", f"{finding.what}: {finding.means}", "   ")
    mark = paint("!", YELLOW, color)
    return [f" {mark}{first[2:]}", *rest, *wrap("   fix: ", finding.fix, "        ")]


# --- the device table ---------------------------------------------------------------------


def device_lines(machine: Machine) -> list[str]:
    """Return the device table, one line for each GPU, and the driver."""
    if not machine.report.gpus and not machine.report.lost:
        return row("GPUs", "none; everything runs on the CPU")
    rows = [(gpu.index, _gpu_cells(gpu)) for gpu in machine.report.gpus]
    lines = [(index, text) for index, text in rows]
    lines += [(gpu.index, f"LOST: {gpu.error}"[: WIDTH - 16]) for gpu in machine.report.lost]
    table = [f"{index:>3}  {text}" for index, text in sorted(lines)]
    return [*row("GPUs", _driver(machine)), *table]


def _gpu_cells(gpu: Gpu) -> str:
    memory = f"{gpu.memory_bytes / GIB:.0f} GiB" if gpu.memory_bytes else "-"
    capability = "sm_{}{}".format(*gpu.compute_capability) if gpu.compute_capability else "-"
    mig = f" MIG×{len(gpu.mig_uuids)}" if gpu.mig_enabled else ""
    return f"{gpu.name[:34]:<34} {memory:>8}  {capability:<7} {gpu.pci_bus_id}{mig}"


def _driver(machine: Machine) -> str:
    report = machine.report
    version = report.driver_version or machine.hardware.kernel_driver or "unknown"
    cuda = ", CUDA up to {}.{}".format(*report.cuda_version) if report.cuda_version else ""
    return f"driver {version}{cuda}"


# --- text -------------------------------------------------------------------------------------


def row(label: str, text: str) -> list[str]:
    return wrap(f" {label:<9} ", text, " " * 11)


def wrap(first: str, text: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def shorten(text: str | None, width: int) -> str:
    text = "" if text is None else text
    if len(text) <= width:
        return text
    count = text.count(",") + 1
    return f"{text[: width - 14]}… ({count} entries)"


def planned(plan: Plan, name: str) -> str | None:
    return next((var.value for var in plan.environment if var.name == name), None)


def paint(text: str, code: str, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color else text
