"""What CUDA makes of a CUDA_VISIBLE_DEVICES that the user set, in plain words.  Pure.

docs/visibility.md has the rules with their sources, and where PyTorch decides otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.gpus.visible_entries import Device, Entry, devices_of, numbered, quoted, read_entries
from launcher.model.machine import GpuReport
from launcher.model.named_tuple import NamedTuple

_COLUMNS = 80  # of the banner
_NAMED = 4  # entries after the end of the list that are named one by one

# The first driver with which a process sees one instance of each GPU instance, and whole GPUs
# beside them; before, one instance and nothing else (MIG user guide, "CUDA Device Enumeration").
_SEVERAL_INSTANCES = 570


class Visibility(NamedTuple):
    """What CUDA will see, and why it will not see the rest."""

    devices: tuple[str, ...]  # UUIDs of GPUs and MIG instances, in CUDA's order
    names: tuple[str, ...]  # of the same: "GPU 0", "MIG 1 of GPU 0"
    hidden: tuple[str, ...]  # why there is no more to see, the most telling reason first
    certain: bool  # False where only the driver knows


def explain(value: str, report: GpuReport, order: str) -> Visibility:
    """Return what CUDA sees under CUDA_VISIBLE_DEVICES=`value` and CUDA_DEVICE_ORDER=`order`."""
    if not report.gpus:
        return Visibility((), (), (_why_no_gpu(report),), certain=report.failure is None)
    if not value.strip():
        return Visibility((), (), ("an empty value hides every GPU",), certain=True)
    devices = devices_of(report)
    entries = read_entries(value, devices, report, order)
    end = next((at for at, entry in enumerate(entries) if not entry.device), len(entries))
    if (at := _repetition(entries, end)) is not None:
        why = f"{quoted(entries[at].text)} repeats an entry, which hides every GPU"
        return Visibility((), (), (why,), certain=at < end or end == 0)
    picked = [entry.device for entry in entries[:end] if entry.device]
    seen = _seen_at_once(picked, report.driver_version)
    doubts = list(dict.fromkeys(entry.doubt for entry in entries[: end + 1] if entry.doubt))
    reasons = [
        *_why_it_ends(entries, end),
        *_read_otherwise(entries[:end]),
        *_not_at_once(picked, seen),
        *doubts,
        *_after_the_end(entries[end + 1 :]),
        *(_not_listed(devices, entries) if seen else ()),
        *_not_usable(devices, report),
    ]
    # One instance by its own UUID is what every driver shows.
    settled = not any(device.group for device in seen) or (len(picked) == 1 and not picked[0].mig)
    return Visibility(
        tuple(device.uuid for device in seen),
        tuple(device.name for device in seen),
        tuple(reasons),
        certain=settled and not doubts,
    )


def one_line(visibility: Visibility) -> str:
    """Return the devices and the most telling reason, for the banner."""
    text = ("" if visibility.certain else "probably ") + _summary(visibility.names)
    if visibility.hidden:
        alone = " alone" if len(visibility.names) == 1 else ""
        text += f"{alone}: {visibility.hidden[0]}"
    return text if len(text) <= _COLUMNS else f"{text[: _COLUMNS - 1]}…"


def _why_no_gpu(report: GpuReport) -> str:
    if report.failure:
        return f"the driver does not answer: {report.failure.reason}"
    return f"all are lost: {report.lost[0].error}" if report.lost else "there is none here"


def _summary(names: Sequence[str]) -> str:
    numbers = [int(name.removeprefix("GPU ")) for name in names if name.startswith("GPU ")]
    if len(names) < 2:
        return names[0] if names else "no GPU"
    if len(numbers) == len(names):
        return numbered(numbers)
    return f"{len(names)} {'devices' if numbers else 'MIG instances'}"


# --- the list ----------------------------------------------------------------------------------


def _repetition(entries: Sequence[Entry], end: int) -> int | None:
    """Return the place of the entry that names a device again, or repeats one that names none.

    PyTorch looks for repetitions before it looks for devices, in as much of the list as is of one
    kind: "0,7,7" hides GPU 0 too, where "0,7,8" does not.
    """
    seen: set[str | Device] = set()
    for at, entry in enumerate(entries):
        if entry.key is None:
            return None
        marks: set[str | Device] = {entry.key}
        if entry.device and at < end:
            marks.add(entry.device)
        if marks & seen:
            return at
        seen |= marks
    return None


def _why_it_ends(entries: Sequence[Entry], end: int) -> Iterator[str]:
    rest = entries[end:]
    if rest and not (end and len(rest) == 1 and not rest[0].text.strip()):  # a comma at the end
        so = ", and it ends the list" if len(rest) > 1 else ""
        yield f"{quoted(rest[0].text)} {rest[0].problem}{so}"


def _read_otherwise(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what CUDA reads of entries such as "0-3" and "1gpu"."""
    for entry in entries:
        if entry.key and entry.text.strip().lstrip("+-0") != entry.key.lstrip("0"):
            yield f"{quoted(entry.text)} is read as {entry.key}"


def _after_the_end(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries[:_NAMED]:
        yield f"{quoted(entry.text)} comes after the end of the list"
    if len(entries) > _NAMED:
        yield f"{len(entries) - _NAMED} more entries come after the end of the list"


# --- devices -----------------------------------------------------------------------------------


def _seen_at_once(picked: Sequence[Device], driver: str | None) -> list[Device]:
    """Return what a process sees of the devices that were picked: with MIG, it may be fewer."""
    offered = [part for device in picked for part in device.parts()]
    instances = [device for device in offered if device.group]
    major = (driver or "").partition(".")[0]
    if not instances:
        return offered
    if not major.isdecimal() or int(major) < _SEVERAL_INSTANCES:
        return instances[:1]
    first = {device.group: device for device in reversed(instances)}
    return [device for device in offered if not device.group or device is first[device.group]]


def _not_at_once(picked: Sequence[Device], seen: Sequence[Device]) -> Iterator[str]:
    """Yield why MIG hides devices that were picked."""
    left_out = [part for device in picked for part in device.parts() if part not in seen]
    groups = {device.group for device in seen if device.group}
    siblings = [device.name for device in left_out if device.group in groups]
    others = [device.name for device in left_out if device.group not in groups]
    if others:
        yield f"one instance per process ({_summary(others)} hidden)"
    if siblings:
        yield f"one per GPU instance ({_summary(siblings)} hidden)"


def _not_listed(devices: Sequence[Device], entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the devices that no entry names, not even one after the end."""
    listed = {part for entry in entries if entry.device for part in entry.device.parts()}
    rest = [part for device in devices for part in device.parts() if part not in listed]
    for kind in (False, True):
        names = [device.name for device in rest if bool(device.group) is kind]
        if names:
            yield f"{_summary(names)} {'is' if len(names) == 1 else 'are'} not in the list"


def _not_usable(devices: Sequence[Device], report: GpuReport) -> Iterator[str]:
    for device in devices:
        if not device.parts():
            yield f"{device.name} is in MIG mode and has no instance"
    for gpu in report.lost:
        yield f"GPU {gpu.index} is lost: {gpu.error}"
