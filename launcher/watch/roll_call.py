"""Is every GPU of the start there, and how is each?  The cheap look, every half minute.

Runs in a forked child: the library may hang or crash.  What is wrong is then for `gpu_loss` to find
out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Mapping

from launcher.model.named_tuple import NamedTuple
from launcher.model.pci_address import in_sysfs
from launcher.model.watch import GpusAtStart, GpuState, ListedGpu
from launcher.paths import walk
from launcher.settings import environ
from launcher.watch import nvml

_DEVICES = "/sys/bus/pci/devices"

# What is listed: by the UUID of each GPU, those of its MIG instances; None = not in MIG mode.
Roll = Mapping[str, frozenset[str] | None]


class Seen(NamedTuple):
    """What a roll call found."""

    roll: Roll
    unopened: int  # GPUs that NVML counts and cannot open
    states: Mapping[str, GpuState]  # by UUID, of those that were asked


def as_at_start(start: GpusAtStart, control_fault: str) -> Mapping[str, GpuState] | None:
    """Return how the GPUs are; None where one of the start, or a MIG instance, is not there.

    Args:
        control_fault: what opening the control node did now.
    """
    if control_fault != start.control_fault:
        return None
    try:
        seen = call(start.listed)
    except (OSError, AttributeError):  # no library, or one without these functions
        return None
    there = seen.unopened <= start.lost and all(
        gpu.uuid in seen.roll and _covers(seen.roll[gpu.uuid], gpu.instances)
        for gpu in start.listed
    )
    return seen.states if there else None


def ask_as_the_start_did(start: GpusAtStart) -> None:
    """Take the container's environment, and NVML from where it says: watch has neither.

    The loader reads LD_LIBRARY_PATH at exec alone; what is loaded from there now is what everybody
    who asks for it by name gets.  Raises OSError where others than root could have put it there.
    """
    environ.replace(dict(start.environ))
    for folder in environ.own().get("LD_LIBRARY_PATH", "").split(":"):
        path = f"{folder}/{nvml.LIBRARY}"
        if not folder.startswith("/") or not os.path.exists(path):
            continue
        found = walk.weakness(folder) or walk.weakness_of_file(path)
        if found:
            raise OSError(
                f"{path} can be changed by others than root, who does not load it: {found}"
            )
        with contextlib.suppress(OSError):  # of another architecture: the loader goes on, too
            ctypes.CDLL(path)
            return


def _covers(now: frozenset[str] | None, start: frozenset[str] | None) -> bool:
    return now is start is None or (now is not None and start is not None and start <= now)


def call(listed: tuple[ListedGpu, ...] = ()) -> Seen:
    """Ask NVML for every GPU; those of `listed` that sleep are let be, and count as there.

    Raises OSError where it does not work at all.
    """
    sleeping = {gpu.index: gpu for gpu in listed if is_asleep(gpu.bus)}
    vgpus = {gpu.uuid for gpu in listed if gpu.state.licensed is not None}
    library = nvml.open_library()
    try:
        count = nvml.count(library)
        roll: dict[str, frozenset[str] | None] = {}
        states: dict[str, GpuState] = {}
        for index in range(count):
            if gpu := sleeping.get(index):
                roll[gpu.uuid] = gpu.instances
                continue
            with contextlib.suppress(OSError):
                device = nvml.device(library, index)
                uuid = nvml.uuid(library, device)
                roll[uuid] = nvml.instances(library, device)
                states[uuid] = nvml.state(library, device, vgpu=uuid in vgpus)
        return Seen(roll, count - len(roll), states)
    finally:
        library.nvmlShutdown()


def is_asleep(bus: str) -> bool:
    """Return whether the kernel has switched a GPU off that nobody uses: a question wakes it.

    kernel.org, ABI/testing/sysfs-devices-power.
    """
    return _power(bus, "runtime_status") == "suspended"


def may_sleep(bus: str) -> bool:
    """Return whether the kernel may do that: whoever holds the GPU open keeps it from it."""
    return _power(bus, "control") == "auto"


def _power(bus: str, name: str) -> str:
    try:
        with open(f"{_DEVICES}/{in_sysfs(bus)}/power/{name}", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return ""
