"""Ask the driver what GPUs there are, in a child: its library may hang or crash."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from launcher import codec, detect, init, locality
from launcher.host import Host
from launcher.init import Child, Init
from launcher.machine import DriverFailure, GpuReport, Machine

_ROOT = Path("/")


def ask(box: Init, root: Path = _ROOT) -> Child:
    """Start asking; `machine` takes the answer."""
    return box.fork(lambda: _read(root))


def machine(
    box: Init,
    asked: Child,
    host: Host,
    started: float,
    timeout: float,
    patience: float,
    root: Path = _ROOT,
) -> Machine:
    """Return the machine, with the driver's answer; silence and a crash are answers too.

    Args:
        started: CLOCK_MONOTONIC, seconds; `timeout` and `patience` count from then.
        patience: seconds after which it says that it still waits.
    """
    hardware, limits = detect.read_hardware(root), detect.read_limits(root)
    report = _answer(box, asked, started, timeout, patience)
    if report.failure:  # then nobody else names them
        hardware = replace(hardware, pci=detect.name_devices(hardware.pci, root))
    return Machine(locality.locate_gpus(report), hardware, limits, host)


def _read(root: Path) -> bytes:
    from launcher import nvml  # pynvml takes 40 ms to import; here it is beside the way

    report = nvml.read_report()
    nodes = detect.open_nodes(root, control_only=report.failure is None)
    return codec.to_json(replace(report, nodes=nodes)).encode()


def _answer(box: Init, asked: Child, started: float, timeout: float, patience: float) -> GpuReport:
    def wait_until(seconds: float) -> bool:
        return box.wait_for(asked, started + seconds - time.monotonic())

    if not wait_until(min(patience, timeout)):
        if patience < timeout:
            box.out.say("launcher: still asking the NVIDIA driver …")
        if not wait_until(timeout):
            box.abandon(asked)
            return GpuReport(failure=DriverFailure("hung", f"no answer within {timeout:g} s"))
    assert asked.status is not None
    if asked.status != 0:
        return GpuReport(failure=DriverFailure("crashed", init.describe_end(asked.status)))
    return codec.from_json(GpuReport, bytes(asked.answer))
