"""What `launcher doctor` costs without PyTorch, on machines that are well and that are not."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from bench.layout import PROJECT, Layout, with_machine
from launcher.checks import LAYERS
from launcher.doctor import collect as doctor_collect
from launcher.doctor.trials import Programs
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuReport, Machine
from sim import driver
from testing import topologies
from testing.machines import machine
from testing.values import replace

_MOST = 1.5  # seconds
_WITHOUT_PYTORCH = [layer for layer in LAYERS if layer != "pytorch"]

Changes = Mapping[str, Mapping[str, str | None]]


def table(layout: Layout, rounds: int) -> str:
    """Measure, and return an aligned table of medians."""
    rows = ["machine                              CUDA tried   of that   exec → exit   ≤ 1.5 s"]
    for title, environ in _machines(layout):
        described = environ.get("NVSIM_MACHINE")
        report = topologies.read_machines([described])[0] if described else GpuReport()
        collect = partial(_collect, machine(report), environ)
        collected, whole = _time(collect, rounds), _time(partial(_run, layout, environ), rounds)
        runs = {replace(trial, how="") for trial in collect().trials}  # one may have two names
        tried = f"{len(runs)} ×"
        rows.append(
            f"{title:<36}{tried:>9}{1000 * collected:>9.0f} ms{whole:>12.3f} s"
            f"{'yes' if whole <= _MOST else 'NO':>8}"
        )
    return "\n".join(rows)


def _machines(layout: Layout) -> list[tuple[str, dict[str, str]]]:
    def simulated(name: str, changes: Changes | None = None) -> dict[str, str]:
        described = driver.find(name)
        if changes:
            described = driver.vary(name, changes, layout.root / "varied.machine")
        return with_machine(dict(layout.environ), str(described))

    eight = simulated("h100-8x")
    none = {name: eight[name] for name in eight.keys() - {"NVSIM_MACHINE", "LD_LIBRARY_PATH"}}
    unready = simulated("h100-8x", {"faults": {"cuInit": "return 802"}})
    stubs = layout.root / "stubs"
    stubs.mkdir()
    (stubs / "libcuda.so.1").touch()  # as an engine leaves it where a mount is gone
    shadowed = f"{stubs}:{eight['LD_LIBRARY_PATH']}"
    masked = {"CUDA_VISIBLE_DEVICES": "", "CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps"}
    return [
        ("1 GPU", simulated("rtx4090-1x")),
        ("8 GPUs", eight),
        ("8 GPUs, all masked, and MPS", {**eight, **masked}),
        ("8 GPUs, an empty libcuda.so.1 first", {**eight, "LD_LIBRARY_PATH": shadowed}),
        ("8 GPUs, cuInit fails with 802", unready),
        ("no driver", none),
    ]


def _collect(seen: Machine, environ: Mapping[str, str]) -> Evidence:
    programs = Programs(str(PROJECT / "launcher/guest"), sys.executable, user=None)
    return doctor_collect.collect(seen, environ, programs, with_torch=False)


def _run(layout: Layout, environ: Mapping[str, str]) -> None:
    command = [str(layout.launcher_python.parent / "launcher"), "doctor", *_WITHOUT_PYTORCH]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True)
    assert done.returncode in (0, *range(11, 11 + len(LAYERS))), done.stderr


def _time(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)
