"""Say what was found, planned and seen, in text for people.  Pure.

80 columns, readable without colour; every problem says what is wrong, what it means for
you, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.how_to_run import fit_at, place_of
from launcher.gpus.topology import name_gpus
from launcher.model.evidence import TorchReport
from launcher.model.host import Whereabouts
from launcher.model.machine import Gpu, Machine, MigDevice
from launcher.model.plan import Finding, Plan

WIDTH = 80
GIB = 1 << 30
_MOST_INSTANCES = 16  # of MIG, that have a line each
_SHORT_UUID = len("MIG-fb42055e")
NO_HARDWARE = "hardware.none"
BOLD, DIM, GREEN, YELLOW = "1", "2", "1;32", "1;33"


def for_place(text: str, where: Whereabouts) -> str:
    """Return a message, written in the words of a container of Docker's, in those of this place."""
    return fit_at(text, place_of(where))


# --- one line ------------------------------------------------------------------------------


_CPU_ONLY = "no GPU, as LAUNCHER_GPUS=none asks"


def first_line(machine: Machine, failure: Finding | None, cpu_only: bool = False) -> str:
    """Return what was found, the moment it is known.

    Args:
        cpu_only: no GPU is wanted, and so none was looked for.
    """
    found = _CPU_ONLY if cpu_only else gpu_summary(machine, failure)
    return f"launcher: {found}; starting the services …"


def summary_lines(machine: Machine, plan: Plan, failure: Finding | None) -> list[str]:
    """Return command mode's lines, for stderr: one, and the diagnosis where something is wrong.

    One more where the command does not run as one would expect.
    """
    visible = planned(plan, "CUDA_VISIBLE_DEVICES")
    seen = f"; CUDA_VISIBLE_DEVICES={shorten(visible, 40)}" if visible is not None else ""
    found = _CPU_ONLY if plan.cpu_only else gpu_summary(machine, failure)
    lines = [f"launcher: {found}{seen}"]
    # Whose files the command makes is not seen before it has made them.
    who = (note for note in plan.notes if note.id.startswith("identity."))
    lines += [f"launcher: {note.what}: {note.means}" for note in who]
    if failure is None or failure.id == NO_HARDWARE:  # a machine without a GPU is not a fault
        return lines
    if machine.report.gpus:
        lines.append(f"launcher: {failure.what}: {failure.means}")
    return [*lines, f"launcher:   fix: {failure.fix}"]


def gpu_summary(machine: Machine, failure: Finding | None) -> str:
    gpus = machine.report.gpus
    if not gpus:
        return f"no usable GPU ({failure.what if failure else 'none found'})"
    kinds = dict.fromkeys(gpu.name for gpu in gpus)
    names = ", ".join(f"{sum(g.name == kind for g in gpus)} × {kind}" for kind in kinds)
    lost = f", {len(machine.report.lost)} lost" if machine.report.lost else ""
    return f"{names}{lost}, {driver_text(machine)}"


def deep_line(torch: TorchReport | None, failure: Finding | None, expected: int) -> str:
    """Return the line after the banner: what PyTorch did, and what the deep look found broken.

    Args:
        failure: of the deep look, where the banner does not say it already.
        expected: devices that the plan promised.
    """
    if torch is None and failure is None:
        return "launcher: CUDA does not work, for the reason above; details: launcher doctor"
    line = f"launcher: {_torch_text(torch, expected) if torch else 'CUDA does not work'}"
    if failure is None:
        return line
    said = failure.id.startswith("pytorch.")  # by PyTorch itself
    return line + ("" if said else f"; {failure.what}: {failure.means}") + f"; fix: {failure.fix}"


def _devices(count: int) -> str:
    return f"{count} device" if count == 1 else f"{count} devices"


def _torch_text(torch: TorchReport, expected: int) -> str:
    if torch.version is None:
        return f"PyTorch cannot be used: {torch.error}"
    name = f"PyTorch {torch.version}"
    if torch.cuda is None:
        return f"{name}: a build without CUDA, computes on the CPU"
    if torch.error and (expected or torch.devices):
        return f"{name}: CUDA works on 0 of {_devices(expected)}: {torch.error}"
    if not torch.devices and not expected:
        return f"{name}: no CUDA device, computes on the CPU"
    working = torch.devices - len(torch.failures)
    line = f"{name}: CUDA works on {working} of {_devices(max(torch.devices, expected))}"
    return line + "".join(f"; cuda:{failed.index}: {failed.message}" for failed in torch.failures)


def finding_lines(finding: Finding, color: bool = False) -> list[str]:
    first, *rest = wrap(" ! ", f"{finding.what}: {finding.means}", "   ")
    mark = paint("!", YELLOW, color)
    return [f" {mark}{first[2:]}", *rest, *wrap("   fix: ", finding.fix, "        ")]


# --- the device table ---------------------------------------------------------------------


def device_lines(machine: Machine) -> list[str]:
    """Return the device table, one line for each GPU, and the driver."""
    if not machine.report.gpus and not machine.report.lost:
        return row("GPUs", "none; everything runs on the CPU")
    gpus = machine.report.gpus
    each = sum(len(gpu.mig_devices) for gpu in gpus) <= _MOST_INSTANCES
    lines = [(gpu.index, [_gpu_cells(gpu), *(_instances(gpu) if each else ())]) for gpu in gpus]
    lines += [(gpu.index, [f"LOST: {gpu.error}"[: WIDTH - 16]]) for gpu in machine.report.lost]
    table = [
        line
        for index, (first, *rest) in sorted(lines)
        for line in (f"{index:>3}  {first}", *(f"     {text}" for text in rest))
    ]
    shared = [gpu.index for gpu in machine.report.gpus if gpu.memory_shared]
    if shared:
        owner = f"{name_gpus(shared)}: the memory is the machine's, shared with the CPU"
        table.append(f"     {owner}")
    return [*row("GPUs", driver_text(machine)), *table]


def _gpu_cells(gpu: Gpu) -> str:
    memory = f"{gpu.memory_bytes / GIB:.0f} GiB" if gpu.memory_bytes else "-"
    capability = "sm_{}{}".format(*gpu.compute_capability) if gpu.compute_capability else "-"
    mig = f" MIG×{len(gpu.mig_uuids)}" if gpu.mig_enabled else ""
    return f"{gpu.name[:34]:<34} {memory:>8}  {capability:<7} {gpu.place}{mig}"


def _instances(gpu: Gpu) -> Iterator[str]:
    """Yield a line for each MIG instance, by the beginning of the UUID that LAUNCHER_GPUS takes."""
    for mig in gpu.mig_devices if gpu.mig_enabled else ():
        # Drivers before R470 name them by the GPU's UUID and their place in it.
        old = mig.uuid.startswith("MIG-GPU-")
        name = f"…{mig.uuid[44:]}" if old else mig.uuid[:_SHORT_UUID]
        yield f"{name:<{_SHORT_UUID}}  {mig.profile[:12]:<12}  {_memory_of(mig)}"


def _memory_of(mig: MigDevice) -> str:
    if not mig.memory_bytes:
        return "memory not told"
    total = f"{mig.memory_bytes / GIB:.1f} GiB"
    if mig.memory_free is None:
        return total
    count = mig.processes
    used = "" if count is None else f", {count} process{'' if count == 1 else 'es'}"
    return f"{mig.memory_free / GIB:.1f} of {total} free{used}"


def driver_text(machine: Machine) -> str:
    report = machine.report
    version = report.driver_version or machine.hardware.kernel_driver or "unknown"
    cuda = ", CUDA up to {}.{}".format(*report.cuda_version) if report.cuda_version else ""
    return f"driver {version}{cuda}"


# --- text -------------------------------------------------------------------------------------


def row(label: str, text: str) -> list[str]:
    return wrap(f" {label:<9} ", text, " " * 11)


def wrap(first: str, text: str, rest: str) -> list[str]:
    import textwrap  # not before the first line

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
