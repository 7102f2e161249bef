"""The entries of CUDA_VISIBLE_DEVICES: the device that each names, or why it names none.  Pure.

docs/visibility.md has the rules with their sources.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.model.machine import Gpu, GpuReport, MigDevice
from launcher.model.named_tuple import NamedTuple

_SHOWN = 20  # characters of an entry that messages repeat

# What strtoul reads: the rest of an entry is ignored.
_NUMBER = re.compile(r"[ \t\n\v\f\r]*([+-]?)([0-9]+)")

# Why only the driver knows.
_MOVED = "indices after a lost GPU, or one in MIG mode, may shift"
_FASTEST_FIRST = "the fastest is first unless CUDA_DEVICE_ORDER=PCI_BUS_ID"
_OLD_NAME = "drivers from 470 on call instances MIG-<UUID>"
_NOT_ASCII = "characters beyond ASCII are read as bytes"


class Device(NamedTuple):
    """A GPU, or a MIG instance of one."""

    uuid: str
    name: str  # "GPU 0", "MIG 1 of GPU 0"
    mig: bool = False  # a GPU in MIG mode
    instances: tuple[Device, ...] = ()  # of a GPU in MIG mode
    group: tuple[int, int | str] | None = None  # of an instance: GPU and GPU instance
    old_name: str | None = None  # of an instance: what drivers before 470 call it

    def parts(self) -> tuple[Device, ...]:
        """Return what CUDA can run on."""
        return self.instances if self.mig else (self,)


class Entry(NamedTuple):
    """One entry, as CUDA reads it."""

    text: str
    key: str | None = None  # equal where entries repeat each other; None: not of the list's kind
    device: Device | None = None
    problem: str = ""  # why there is no device
    doubt: str = ""  # why only the driver knows


def devices_of(report: GpuReport) -> list[Device]:
    """Return the GPUs that answer, in NVML's order."""
    return [_whole(gpu) for gpu in sorted(report.gpus, key=lambda gpu: gpu.index)]


def read_entries(
    value: str, devices: Sequence[Device], report: GpuReport, order: str
) -> list[Entry]:
    """Return every entry of `value`, those after the end of the list too.

    The first four characters decide whether it is a list of GPUs' UUIDs, of MIG instances' or of
    indices; an entry of another kind names nothing.
    """
    texts = value.split(",")
    if value.startswith("GPU-"):
        return [_read_uuid(text, "GPU-", devices) for text in texts]
    if value.startswith("MIG-"):
        instances = [part for device in devices for part in device.instances]
        return [_read_uuid(text, "MIG-", instances) for text in texts]
    count = _count(devices, report, order)
    return [_read_index(text, count, first=not at) for at, text in enumerate(texts)]


def quoted(text: str) -> str:
    """Return an entry as messages repeat it: short, printable, a column for each character."""
    return f'"{_cut(text.encode("unicode_escape").decode("ascii"))}"'


def numbered(numbers: Sequence[int]) -> str:
    """Return "GPU 3", "GPUs 0-3", "GPUs 1, 0"."""
    if len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1)):
        return f"GPUs {numbers[0]}-{numbers[-1]}"
    return f"GPU{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _whole(gpu: Gpu) -> Device:
    instances = tuple(_instance(gpu, place, mig) for place, mig in enumerate(gpu.mig_devices))
    in_mig_mode = bool(gpu.mig_enabled)
    return Device(gpu.uuid, f"GPU {gpu.index}", in_mig_mode, instances if in_mig_mode else ())


def _instance(gpu: Gpu, place: int, mig: MigDevice) -> Device:
    group = (gpu.index, mig.uuid if mig.gpu_instance is None else mig.gpu_instance)
    old_name = f"MIG-{gpu.uuid}/{mig.gpu_instance}/{mig.compute_instance}"
    return Device(mig.uuid, f"MIG {place} of GPU {gpu.index}", group=group, old_name=old_name)


# --- indices -----------------------------------------------------------------------------------


class _Count(NamedTuple):
    """The GPUs as CUDA counts them."""

    devices: tuple[Device, ...]
    total: int  # with those that are lost
    sure_below: int  # whose indices are not in doubt
    doubt: str


def _count(devices: Sequence[Device], report: GpuReport, order: str) -> _Count:
    """Return the count; a GPU that is lost, or has nothing to run on, has no place in it."""
    total = len(report.gpus) + len(report.lost)
    in_mig_mode = [gpu.index for gpu in report.gpus if gpu.mig_enabled]
    sure_below = min(in_mig_mode + [gpu.index for gpu in report.lost], default=total)
    doubt = _MOVED
    if order != "PCI_BUS_ID" and len({gpu.name for gpu in report.gpus}) > 1:
        # "A simple heuristic", says the programming guide, and no more; this is a guess.
        newest = {gpu.uuid: gpu.compute_capability or (0, 0) for gpu in report.gpus}
        devices = sorted(devices, key=lambda device: newest[device.uuid], reverse=True)
        sure_below, doubt = 0, _FASTEST_FIRST
    return _Count(tuple(d for d in devices if d.parts()), total, sure_below, doubt)


def _read_index(text: str, count: _Count, first: bool) -> Entry:
    match = _NUMBER.match(text)
    if not match:
        doubt = "" if text.isascii() else _NOT_ASCII
        return Entry(text, problem=_why_no_index(text), doubt=doubt)
    digits = match[2].lstrip("0") or "0"
    if match[1] == "-" and digits != "0":
        return Entry(text, problem="is negative")
    index = int(digits) if len(digits) < 10 else 10**10  # Python limits what int() reads
    if index < len(count.devices):
        doubt = "" if index < count.sure_below else count.doubt
        return Entry(text, digits, count.devices[index], doubt=doubt)
    if not count.devices:
        problem = "finds no MIG instance to run on"
    elif count.total == 1 and first:
        # The classic of containers: the variable came along from the host, or from a job script.
        problem = f"is not here: the one GPU is 0; {_cut(digits)} may be its number on the host"
    elif count.total == len(count.devices):
        problem = f"is no device here ({numbered(range(count.total))})"
    else:
        problem = f"is no device here: CUDA counts {len(count.devices)}, from 0"
    settled = index >= count.total and not any(device.mig for device in count.devices)
    return Entry(text, digits, problem=problem, doubt="" if settled else count.doubt)


def _why_no_index(text: str) -> str:
    bare = text.strip()
    if bare.startswith(("GPU-", "MIG-")):
        spaced = "is no UUID: it begins with white space"
        return spaced if bare != text else "is a UUID in a list of indices"
    if bare.lower().startswith(("gpu-", "mig-")):
        return "is no UUID: those begin with GPU- or MIG-, in capitals"
    if bare.lower() in ("all", "none", "void"):
        return "is a word for NVIDIA_VISIBLE_DEVICES only"
    if bare.startswith(("'", '"')):
        return "has quotes, which are part of the value"
    return "is no index and no UUID" if bare else "is empty"


# --- UUIDs -------------------------------------------------------------------------------------


def _read_uuid(text: str, kind: str, devices: Sequence[Device]) -> Entry:
    """As much of a UUID as one device alone has will do; case and white space count."""
    if not text.startswith(kind):
        return Entry(text, problem=_why_no_uuid(text, kind))
    found = [d for d in devices if d.uuid.startswith(text) or text == d.old_name]
    if len(found) > 1:
        return Entry(text, text, problem=f"fits {len(found)} devices")
    if not found:
        near = any(device.uuid.lower().startswith(text.strip().lower()) for device in devices)
        why = "is no device here" + (" (case and spaces count)" if near else "")
        return Entry(text, text, problem=why)
    if not found[0].parts():
        return Entry(text, text, problem="is in MIG mode and has no instance")
    doubt = "" if found[0].uuid.startswith(text) else _OLD_NAME
    return Entry(text, text, found[0], doubt=doubt)


def _why_no_uuid(text: str, kind: str) -> str:
    bare = text.strip()
    if bare.startswith(kind):
        return "is no UUID: it begins with white space"
    if bare.startswith(("GPU-", "MIG-")):
        other = {"GPU-": "a MIG instance in a list of GPUs", "MIG-": "a GPU in a list of instances"}
        return f"is {other[kind]}"
    return "is an index in a list of UUIDs" if _NUMBER.match(text) else "is no UUID"
