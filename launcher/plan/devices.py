"""Decide which GPUs CUDA sees, in which order, and how they are named.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from launcher.gpus.sharing import ways
from launcher.gpus.topology import cell, name_gpus, pair_table, strength
from launcher.model.errors import BadSetting
from launcher.model.host import Sharing
from launcher.model.machine import Gpu, GpuReport, MigDevice
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import EnvVar
from launcher.settings.table import Settings

_DEFAULT_ORDER = "PCI_BUS_ID"
# A driver keeps some memory of an idle card to itself: hundreds of MiB on the largest ones.
_IDLE_SHARE = 0.95
_USABLE = "usable {}"
_ALONE = Sharing()
# An entry of another kind ends the list: docs/visibility.md, rule 2.
_ONE_KIND = "CUDA takes a list of GPUs or of instances"


class Candidate(NamedTuple):
    """What CUDA can open: a GPU, or an instance of one that is in MIG mode."""

    gpu: Gpu
    mig: MigDevice | None = None

    @property
    def itself(self) -> Gpu | MigDevice:
        """Return what has the memory and the processes: a MIG instance has its own."""
        return self.mig or self.gpu

    @property
    def uuid(self) -> str:
        return self.itself.uuid


class DevicePlan(NamedTuple):
    """The variables to set, how many devices CUDA will see, and what the user's own value hides.

    Of the remarks the first is the banner's line, and the others are its reasons.
    """

    environment: tuple[EnvVar, ...]
    count: int  # type: ignore[assignment]
    remarks: tuple[str, ...] = ()


def plan_devices(report: GpuReport, settings: Settings, sharing: Sharing = _ALONE) -> DevicePlan:
    """Return CUDA_DEVICE_ORDER and CUDA_VISIBLE_DEVICES.

    Without GPUs both are left alone: an empty CUDA_VISIBLE_DEVICES hides every device from
    whatever is attached later.  LAUNCHER_GPUS=none asks for just that.  Raises BadSetting for
    GPUs that cannot be given.
    """
    kept = settings.environ.get("CUDA_VISIBLE_DEVICES")
    if settings.cpu_only:
        return _nothing(settings)
    order = _order(settings)
    if kept is not None:
        if not report.gpus:
            return DevicePlan((), 0)
        from launcher.gpus.visibility import explain, one_line  # only where there is one to explain

        seen = explain(kept, report, order.value)
        unused = "; LAUNCHER_GPUS has no effect beside it" if "gpus" in settings.given else ""
        visible = EnvVar("CUDA_VISIBLE_DEVICES", kept, f"yours, kept{unused}")
        remarks = (one_line(seen), *seen.hidden) if seen.hidden else ()
        return DevicePlan((order, visible), len(seen.devices), remarks)
    chosen, why = choose(report, settings)
    if not chosen:
        return DevicePlan((), 0)
    shared = [way.kind for way in ways(report, sharing)]
    if shared:
        why = f"{why}; shared: {', '.join(shared)}"
    uuids_why = _why_uuids(report, settings, chosen, under_mps="MPS" in shared)
    if uuids_why:
        value = ",".join(device.uuid for device in chosen)
        why = f"{why}; {uuids_why}"
    else:
        value = ",".join(str(device.gpu.index) for device in chosen)
    return DevicePlan((order, EnvVar("CUDA_VISIBLE_DEVICES", value, why)), len(chosen))


def _nothing(settings: Settings) -> DevicePlan:
    if settings.require_gpu:
        raise BadSetting(
            f"LAUNCHER_REQUIRE_GPU={settings.require_gpu} contradicts LAUNCHER_GPUS=none: "
            "leave one of them out"
        )
    hidden = EnvVar("CUDA_VISIBLE_DEVICES", "", "no GPU, as LAUNCHER_GPUS=none asks")
    return DevicePlan((hidden,), 0)


def _order(settings: Settings) -> EnvVar:
    name = "CUDA_DEVICE_ORDER"
    if settings.environ.get(name):
        return EnvVar(name, settings.environ[name], "yours, kept")
    return EnvVar(name, _DEFAULT_ORDER, "CUDA numbers GPUs as nvidia-smi does")


def _why_uuids(
    report: GpuReport, settings: Settings, chosen: Sequence[Candidate], *, under_mps: bool
) -> str | None:
    """Return why indices are not safe here; None where they are: most software parses them.

    Under MPS they are those of its server (NVIDIA, Multi-Process Service, "CUDA_VISIBLE_DEVICES").
    """
    other_order = settings.environ.get("CUDA_DEVICE_ORDER") or _DEFAULT_ORDER
    reasons = (
        (settings.gpu_ids == "uuid", "UUIDs, as LAUNCHER_GPU_IDS asks"),
        (any(gpu.mig_enabled for gpu in report.gpus), "UUIDs, since MIG instances have no index"),
        (settings.gpu_ids == "index", None),
        (under_mps, "UUIDs, since MPS counts GPUs its own way"),
        (bool(report.lost), "UUIDs, since a lost GPU shifts the indices"),
        (
            other_order != _DEFAULT_ORDER and [device.gpu for device in chosen] != [*report.gpus],
            f"UUIDs, since CUDA_DEVICE_ORDER={other_order} numbers GPUs its own way",
        ),
    )
    return next((why for applies, why in reasons if applies), None)


# --- choosing -------------------------------------------------------------------------------


def choose(report: GpuReport, settings: Settings) -> tuple[tuple[Candidate, ...], str]:
    """Return the devices that LAUNCHER_GPUS asks for, and the reason to print."""
    request = settings.gpus
    if request.wanted:
        return _named(report, request.wanted), "as LAUNCHER_GPUS asks"
    candidates, kind = _candidates(report, settings)
    if request.count is None:
        one = kind.format("GPU")
        if not candidates and report.gpus and kind != _USABLE:
            name = "LAUNCHER_GPUS" if request.idle else "LAUNCHER_GPU_MIN_FREE"
            raise _not_here(report, f"{name}: there is no {one}")
        whole = tuple(device for device in candidates if not device.mig)
        if not 0 < len(whole) < len(candidates):
            return candidates, f"every {one}"
        cut = sorted({device.gpu.index for device in candidates if device.mig})
        return whole, f"every {one}, without the MIG instances of {name_gpus(cut)}: {_ONE_KIND}"
    best, why = _best(report, candidates, request.count, kind)
    if request.count == 1 and not request.idle and len(report.gpus) > 1:
        why += "; 1 is a number, GPU 1 is index:1"  # whoever wrote it may have meant that one
    return best, why


def _candidates(report: GpuReport, settings: Settings) -> tuple[tuple[Candidate, ...], str]:
    """Return what may be chosen, and what that is called: "idle {} with 20 GiB free"."""
    least = settings.gpu_min_free
    idle = settings.gpus.idle
    found = tuple(
        device
        for gpu in report.gpus
        for device in candidates_of(gpu)
        if (not idle or is_idle(device.itself))
        and (not least or (device.itself.memory_free or 0) >= least)
    )
    free = f" with {_size(least)} free" if least else ""
    kind = f"{'idle ' if idle else ''}{{}}{free}" if idle or least else _USABLE
    return found, kind


def is_idle(device: Gpu | MigDevice) -> bool:
    """Return whether nobody computes on it, as far as a container can see.

    Processes of other containers are often invisible; the memory that they hold is not.
    """
    if device.processes:
        return False
    total, used = device.memory_bytes, device.memory_used
    if not total or used is None or (isinstance(device, Gpu) and device.memory_shared):
        return True
    return used <= (1 - _IDLE_SHARE) * total


def candidates_of(gpu: Gpu) -> tuple[Candidate, ...]:
    """Return what CUDA can open of a GPU: itself, or its instances where it is in MIG mode."""
    if gpu.mig_enabled:
        return tuple(Candidate(gpu, mig) for mig in gpu.mig_devices)
    return (Candidate(gpu),)


def _best(
    report: GpuReport, candidates: Sequence[Candidate], count: int, kind: str
) -> tuple[tuple[Candidate, ...], str]:
    asked = f"LAUNCHER_GPUS asks for {count} {kind.format('GPUs')}"
    if count > len(candidates):
        raise _not_here(report, f"{asked}, {len(candidates)} are here")
    many = " ".join([str(len(candidates)), *kind.format("").split()])
    from launcher.gpus.fabric import left_out  # only where somebody asks for the best
    from launcher.gpus.selection import best_set

    whole = [device.gpu for device in candidates if not device.gpu.mig_enabled]
    if count > len(whole):  # MIG instances have no links to choose by
        instances = [device for device in candidates if device.mig]
        if count > len(instances):
            here = f"{len(whole)} whole ones and {len(instances)} MIG instances are here"
            raise _not_here(report, f"{asked}, {here}, and {_ONE_KIND}")
        return tuple(instances[:count]), f"the first {count} of {many}"
    pairs = pair_table(report)
    worse = left_out(report)
    sound = [gpu for gpu in whole if gpu.index not in worse]
    enough = count <= len(sound)
    chosen = best_set(sound, pairs, count) if enough else best_set(whole, pairs, count, sound)
    weakest = min(
        (
            pairs[a.index, b.index]
            for a, b in combinations(chosen, 2)
            if (a.index, b.index) in pairs
        ),
        key=strength,
        default=None,
    )
    link = f", connected by {cell(weakest)}" if weakest else ""
    without = [
        f"without GPU {gpu.index}, {worse[gpu.index]}"
        for gpu in whole
        if gpu not in chosen and gpu.index in worse
    ]
    why = "; ".join([f"the best {count} of {many}{link}", *without])
    return tuple(map(Candidate, chosen)), why


def _named(report: GpuReport, wanted: Sequence[str]) -> tuple[Candidate, ...]:
    everything = [device for gpu in report.gpus for device in candidates_of(gpu)]
    chosen: list[Candidate] = []
    for name in wanted:
        matches = [device for device in everything if _matches(device, name)]
        if len(matches) != 1:
            raise _not_here(report, f"LAUNCHER_GPUS: {_why_not_one(report, name, len(matches))}")
        if matches[0] in chosen:
            raise _not_here(report, f"LAUNCHER_GPUS: {name} is named twice")
        chosen.append(matches[0])
    if len({device.mig is None for device in chosen}) > 1:
        both = "GPUs and MIG instances in one list"
        raise _not_here(report, f"LAUNCHER_GPUS: {both}, and {_ONE_KIND}")
    return tuple(chosen)


def _why_not_one(report: GpuReport, name: str, matches: int) -> str:
    cut = [gpu for gpu in report.gpus if gpu.mig_enabled and _matches(Candidate(gpu), name)]
    if len(cut) == 1:
        here = "name an instance by its UUID" if cut[0].mig_devices else "it has no instance"
        return f"{name_gpus([cut[0].index])} is in MIG mode: {here}"
    for gone in report.lost:
        if name == str(gone.index):
            return f"{name_gpus([gone.index])} cannot be used: {gone.error}"
    return f"{name} matches {matches} GPUs"


def _matches(device: Candidate, name: str) -> bool:
    if name.isdecimal():
        return device.gpu.index == int(name)
    if ":" in name:
        return (device.gpu.pci_bus_id or "").lower().endswith(name.lower())
    return device.uuid.lower().startswith(name.lower())


def _count(processes: int | None) -> str:
    return "?" if processes is None else str(processes)


def _not_here(report: GpuReport, problem: str) -> BadSetting:
    """Say what there is, in the words that LAUNCHER_GPUS takes."""
    lines = [
        f"  {device.gpu.index}  {device.uuid}  {device.itself.name}, "
        f"{_size(device.itself.memory_free)} free, {_count(device.itself.processes)} processes"
        for gpu in report.gpus
        for device in candidates_of(gpu)
    ]
    return BadSetting("\n".join([f"{problem}; here are:", *(lines or ["  no usable GPU"])]))


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    amount = count / (1 << 30)
    return f"{amount:.0f} GiB" if amount >= 1000 else f"{amount:.3g} GiB"
