"""Ask the driver what GPUs there are, in a child: its library may hang or crash."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from launcher.detect import cgroup, detect, holders, sysfs
from launcher.model import codec
from launcher.model.host import Host
from launcher.model.machine import DriverFailure, GpuReport, Machine
from launcher.model.named_tuple import NamedTuple
from launcher.process import init
from launcher.process.fork import limit_files
from launcher.process.init import Child, Init
from launcher.process.pump import Pump
from launcher.process.stand_ins import stand_ins, when_called

if TYPE_CHECKING:
    from launcher.settings.table import Settings

_ROOT = Path("/")
# A command's standard error is its own: one line of ours, unless the driver is really stuck.
COMMAND_PATIENCE = 2.0  # seconds
# It looks for a library on Windows with it, which is a third of its imports.
_OF_PYNVML = {"ctypes.util": {"find_library": when_called("ctypes.util", "find_library")}}
GUEST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "guest")


def ask(box: Init, root: Path = _ROOT) -> Child:
    """Start asking; `machine` takes the answer."""
    return box.fork(lambda: _read(root))


class Patience(NamedTuple):
    """How long the driver is waited for, in seconds from `started`."""

    started: float  # CLOCK_MONOTONIC
    timeout: float  # then there are no GPUs
    silence: float  # then it is said that we still wait


def machine(box: Init, asked: Child, host: Host, patience: Patience, root: Path = _ROOT) -> Machine:
    """Return the machine, with the driver's answer; silence and a crash are answers too."""
    hardware, limits = detect.read_hardware(root), detect.read_limits(root)
    report = _answer(box, asked, patience)
    if report.failure:  # then nobody else names them
        hardware = hardware._replace(pci=detect.name_devices(hardware.pci, root))
    report = _share_memory(sysfs.locate_gpus(report), limits.memory, root)
    report = holders.recognise(report, root)
    return Machine(report, hardware, limits, host)


def _share_memory(report: GpuReport, total: int | None, root: Path) -> GpuReport:
    """Return the report in which integrated GPUs have the machine's memory, as far as we may.

    Args:
        total: bytes that the container may use.
    """
    if not any(gpu.memory_shared for gpu in report.gpus):
        return report
    free = cgroup.memory_available(root)
    gpus = (
        gpu._replace(memory_bytes=total, memory_free=free) if gpu.memory_shared else gpu
        for gpu in report.gpus
    )  # fmt: skip
    return report._replace(gpus=tuple(gpus))


def without_gpus(box: Init, asked: Child, host: Host, root: Path = _ROOT) -> Machine:
    """Return the machine where no GPU is wanted: the driver is not waited for."""
    box.abandon(asked)
    return Machine(GpuReport(), detect.read_hardware(root), detect.read_limits(root), host)


def _read(root: Path) -> bytes:
    nvml = _import_nvml()
    limit_files()
    began = time.monotonic()
    report: GpuReport = nvml.read_report()
    seconds = round(time.monotonic() - began, 3)
    nodes = detect.open_nodes(root, control_only=report.failure is None)
    return codec.to_json(report._replace(nodes=nodes, seconds=seconds)).encode()


def _import_nvml() -> ModuleType:
    """Import what asks the driver, which takes 30 ms: in the child it is beside the way."""
    with stand_ins(_OF_PYNVML):
        from launcher.detect import nvml
    return nvml


def _answer(box: Init, asked: Child, patience: Patience) -> GpuReport:
    timeout = patience.timeout

    def wait_until(seconds: float) -> bool:
        return box.wait_for(asked, patience.started + seconds - time.monotonic())

    if not wait_until(min(patience.silence, timeout)):
        if patience.silence < timeout:
            box.out.say("launcher: still asking the NVIDIA driver …")
        if not wait_until(timeout):
            box.abandon(asked)
            return GpuReport(failure=DriverFailure("hung", f"no answer within {timeout:g} s"))
    assert asked.status is not None
    if asked.status != 0:
        return GpuReport(failure=DriverFailure("crashed", init.describe_end(asked.status)))
    return codec.from_json(GpuReport, bytes(asked.answer))


def detect_machine(settings: Settings, root: Path = Path("/")) -> Machine:
    """Return what this machine is, without starting anything.

    Raises Stopped where a signal asks for that meanwhile.
    """
    box = Init(Pump(2))
    asked = ask(box, root)
    try:
        host = read_host(settings, root)
        patience = Patience(time.monotonic(), settings.detect_timeout, COMMAND_PATIENCE)
        return machine(box, asked, host, patience, root)
    finally:
        box.abandon(asked)
        box.release_signals()


def read_host(settings: Settings, root: Path = Path("/")) -> Host:
    """Return the box that we run in, as the settings want it looked at."""
    return detect.read_host(
        settings.environ, settings.user, settings.workspace, root, settings.python
    )
