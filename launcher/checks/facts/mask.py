"""What a CUDA_VISIBLE_DEVICES hides, and the list that was meant.  Pure.

It is judged twice: by its rules (`visibility`), which a start can do, and by the trials of CUDA,
which have the last word where they were made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from launcher.model.evidence import CLEAN, NO_MASKS, Evidence
from launcher.model.named_tuple import NamedTuple

# `visibility` and `visible_entries` are imported where they are used: a start without a
# CUDA_VISIBLE_DEVICES of the user's needs neither.

VISIBLE, ORDER, BY_BUS = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PCI_BUS_ID"

_KINDS = ("GPU-", "MIG-")  # of UUIDs
_PLAIN_NUMBER = r"\s*[+-]?[0-9]+\s*"
_NEGATIVE = r"\s*-[0-9]"
_RANGE = r"([0-9]{1,3})-([0-9]{1,3})"


class Mask(NamedTuple):
    """What CUDA_VISIBLE_DEVICES does to the GPUs that NVML lists."""

    left: int  # devices that CUDA sees under it
    fault: str  # what is wrong with it, as the last part of an id
    seen: str  # it, and why it hides what it hides


def mask_of(seen: Evidence) -> Mask | None:
    """Return what is wrong with the mask, where its rules and the trials agree on that."""
    value = seen.environ.get(VISIBLE)
    if value is None:
        return None
    from launcher.gpus.visibility import explain
    from launcher.gpus.visible_entries import quoted

    if not any(gpu.mig_devices or not gpu.mig_enabled for gpu in seen.gpus):
        return None  # there is nothing to hide
    sight = explain(value, seen.report, order_of(seen))
    left = len(sight.devices)
    fault = _fault(seen, value, left)
    if not fault or not sight.hidden or not _agreed(seen, left, sight.certain):
        return None
    why, shown = sight.hidden[0], quoted(value)
    text = f"{VISIBLE}={why}" if why.startswith(shown) else f"{VISIBLE}={shown}: {why}"
    return Mask(left, fault, text)


def order_of(seen: Evidence) -> str:
    """Return CUDA_DEVICE_ORDER, which the launcher sets where the user did not."""
    return seen.environ.get(ORDER) or BY_BUS


def list_meant(seen: Evidence) -> str:
    """Return the devices that the user seems to mean, or else all that are here, as a value.

    Of one kind, since CUDA takes no other list: GPUs, unless it began with an instance.
    """
    from launcher.gpus.visible_entries import devices_of, read_entries

    devices = devices_of(seen.report)
    meant: dict[str, None] = {}
    for text in _texts(seen.environ.get(VISIBLE, "")):
        (entry,) = read_entries(text, devices, seen.report, order_of(seen))
        parts = entry.device.parts() if entry.device else ()
        meant.update(dict.fromkeys(part.uuid for part in parts))
    chosen = list(meant) or [part.uuid for device in devices for part in device.parts()]
    kinds: dict[bool, list[str]] = {False: [], True: []}
    for uuid in chosen:
        kinds[uuid in _uuids(seen, "MIG-")].append(uuid)
    of_instances = seen.environ.get(VISIBLE, "").strip("'\" \t\n").upper().startswith("MIG-")
    chosen = kinds[of_instances] or kinds[not of_instances]
    index = {gpu.uuid: str(gpu.index) for gpu in seen.gpus if not gpu.mig_enabled}
    as_listed = order_of(seen) == BY_BUS or len({gpu.name for gpu in seen.gpus}) == 1
    if as_listed and not seen.lost and len(index) == len(seen.gpus):
        chosen = [index[uuid] for uuid in chosen]
    return ",".join(chosen)


def _texts(value: str) -> Iterator[str]:
    """Yield the entries that somebody had in mind who wrote "0-3", "0;1", "'0'" or "gpu-8f2a"."""
    for text in re.split(r"[,;\s]+", value.strip("'\" \t\n")):
        if ends := re.fullmatch(_RANGE, text):
            yield from map(str, range(int(ends[1]), int(ends[2]) + 1))
        elif text.upper().startswith(_KINDS):
            yield text[:4].upper() + text[4:].lower()
        else:
            yield text


def _agreed(seen: Evidence, left: int, certain: bool) -> bool:
    """Return whether CUDA saw what the rules say; where it was not tried, whether they are sure."""
    given = seen.given
    if given is None:
        return certain
    if left:
        return given.outcome == "ok" and len(given.devices) == left
    return not given.devices and (seen.cures(NO_MASKS) or seen.cures(CLEAN))


# --- what is wrong ------------------------------------------------------------------------------


def _fault(seen: Evidence, value: str, left: int) -> str:
    """Return what ends the list, or is read as something else; "" where it is as it should be."""
    from launcher.gpus.visible_entries import devices_of, read_entries

    entries = read_entries(value, devices_of(seen.report), seen.report, order_of(seen))
    end = next((at for at, entry in enumerate(entries) if not entry.device), len(entries))
    if end and not left:
        return "duplicate"  # devices that are here are hidden by nothing else
    rest = [entry.text for entry in entries[end:]]
    if not rest or (end and not "".join(rest).strip()):  # a comma at the end
        numbers = not value.startswith(_KINDS)
        odd = numbers and not all(
            re.fullmatch(_PLAIN_NUMBER, entry.text) for entry in entries[:end]
        )
        return "read_otherwise" if odd else ""
    if value.startswith(_KINDS):
        return _fault_among_uuids(rest[0], value[:4], seen)
    if not value.strip() or re.match(_NEGATIVE, rest[0]):
        return "hides_all"
    if entries[end].key is not None:
        return "out_of_range"
    if rest[0].strip().upper().startswith(_KINDS):
        return "mixed_kinds" if end else "malformed_uuid"
    return "not_a_device"


def _fault_among_uuids(text: str, kind: str, seen: Evidence) -> str:
    bare = text.strip()
    if not text.startswith(kind):
        if bare.startswith(kind):
            return "malformed_uuid"
        return "mixed_kinds" if bare.startswith(_KINDS) or bare[:1].isdecimal() else "not_a_device"
    uuids = _uuids(seen, kind)
    found = [uuid for uuid in uuids if uuid.startswith(text)]
    if found:
        return "ambiguous_uuid" if len(found) > 1 else "no_instance"
    if any(uuid.lower().startswith(bare.lower()) for uuid in uuids):
        return "malformed_uuid"
    return "mig_uuid_gone" if kind == "MIG-" else "stale_uuid"


def _uuids(seen: Evidence, kind: str) -> Sequence[str]:
    if kind == "GPU-":
        return [gpu.uuid for gpu in seen.gpus]
    return [uuid for gpu in seen.gpus for uuid in gpu.mig_uuids]
