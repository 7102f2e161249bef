"""The devices that CUDA sees here, asked in a child: its driver may hang or crash."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from launcher.cluster.ranks import CpuSets, Device
from launcher.detect import cgroup, sysfs
from launcher.detect.driver import GUEST
from launcher.model.cpu_list import read_list
from launcher.model.named_tuple import NamedTuple
from launcher.process.bounded import Child, wait_for

_PATIENCE = 60.0  # seconds; cuInit takes 30 where a fabric never gets ready
_NO_DEVICE, _STUB = 100, 34  # CUresult: a machine without a GPU, which is no failure


class Seen(NamedTuple):
    """What CUDA said."""

    devices: tuple[Device, ...] = ()
    failure: str = ""  # why it gave none, where it should have


def see_devices(
    environ: Mapping[str, str], waiting: Callable[[str], None], root: Path = Path("/")
) -> Seen:
    """Return the devices that a program in this environment sees, in their order."""
    argv = [sys.executable, "-I", "-S", f"{GUEST}/cuda.py"]
    try:
        child = Child(argv, environ)
    except OSError as err:
        return Seen(failure=f"{argv[0]}: {err.strerror}")
    said = f"cuInit has not returned; it has {_PATIENCE:g} s"
    (ended,) = wait_for([child], _PATIENCE, lambda: waiting(said))
    answer = child.answer
    if answer is None:
        return Seen(failure=child.end if ended else f"cuInit did not return in {_PATIENCE:g} s")
    if answer.get("outcome") == "error" and answer.get("code") not in (_NO_DEVICE, _STUB):
        return Seen(failure=str(answer.get("reason")))
    found = answer.get("devices")
    rows = found if isinstance(found, list) else []
    return Seen(tuple(_device(row, root) for row in rows if isinstance(row, dict)))


def _device(row: Mapping[str, object], root: Path) -> Device:
    address = str(row.get("pci_bus_id") or "")
    return Device(str(row.get("name") or "a device"), address, _cpus(address, root))


def _cpus(address: str, root: Path) -> frozenset[int]:
    return _read(sysfs.near_cpus(address, root))


def read_cpus(root: Path = Path("/")) -> CpuSets:
    """Return the CPUs that we may use."""
    allowed = frozenset(os.sched_getaffinity(0))
    quota = cgroup.cpu_quota(root)
    numa = tuple(filter(None, map(_read, sysfs.numa_cpus(root))))
    return CpuSets(allowed, numa, min(quota or len(allowed), len(allowed)))


def _read(text: str) -> frozenset[int]:
    try:
        return read_list(text)
    except ValueError:  # a tree that is none
        return frozenset()
