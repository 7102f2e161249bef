"""The machine under test: this one with its real driver, or a simulated one, told apart by name.

What differs between the two stands here, so that the tests of tests/gpu are the same on both.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.model import codec
from launcher.model.machine import GpuReport, Machine
from sim import description, driver, nvidia_smi
from testing.gpu import smi
from testing.printed import FILES, matrices

ROOT = Path(__file__).parents[2]
REAL = "LAUNCHER_REAL_GPU"  # set by tools/test_gpu.py: ask the driver of this machine
LAUNCHER = (sys.executable, "-I", "-m", "launcher.cli.main")

# The simulated machine: what `topo -m` printed on a real one, and what all its GPUs say besides.
SIMULATED = "a100-pcie-4x-nvbridge-pairs-2socket"
_LIKE = "h100-8x"
_OTHER_CARD = ("fabric_", "name", "compute_capability", "memory_total", "architecture")


@dataclass(frozen=True)
class TestedMachine:
    """How programs see the machine, and how long the watch is watched."""

    __test__ = False  # no test, whatever pytest makes of the name

    real: bool
    env: Mapping[str, str]  # beside PATH, for programs that are to see it
    nvidia_smi: str | None  # path; None = there is none
    watched: float  # seconds

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of a program that is to see this machine."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {**kept, **self.env}

    def launcher(
        self, *arguments: str, env: Mapping[str, str] | None = None, prefix: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run `launcher ARGUMENTS…`, with more variables, behind a command that runs commands."""
        return subprocess.run(
            [*prefix, *LAUNCHER, *arguments],
            env={**self.environ, "LAUNCHER_PYTHON": sys.executable, **(env or {})},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=90,
        )

    def detect(self) -> Machine:
        """Return what `launcher detect` says."""
        done = self.launcher("detect")
        assert done.returncode == 0, done.stderr
        return codec.from_json(Machine, done.stdout)

    def report(self) -> GpuReport:
        return self.detect().report

    def doctor(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Return what `launcher doctor --json` says; its exit status must be that."""
        done = self.launcher("doctor", "--json", *arguments, **options)
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == found["exit_status"], done.stderr
        return found

    def ask_smi(self, *arguments: str) -> str | None:
        """Return what nvidia-smi prints; None where it is not here, or does not know that."""
        if self.nvidia_smi is None:
            return None
        done = subprocess.run(
            [self.nvidia_smi, *arguments],
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout if done.returncode == 0 else None

    def smi(self) -> smi.Smi | None:
        """Return `nvidia-smi -q -x`."""
        printed = self.ask_smi("-q", "-x")
        return smi.read(printed) if printed else None


def real() -> TestedMachine:
    """Return this machine, as its own environment shows it."""
    telling = ("LD_", "CUDA", "NVIDIA_", "LANG", "LC_", "NVSIM_")  # the last: a rehearsal
    env = {name: value for name, value in os.environ.items() if name.startswith(telling)}
    return TestedMachine(True, env, shutil.which("nvidia-smi"), watched=60.0)


def simulated(folder: Path) -> TestedMachine:
    """Return the simulated machine; its nvidia-smi goes into `folder`."""
    from testing.topologies import describe  # it needs what only `make test` has

    shared = dict(_every_gpu(driver.find(_LIKE).read_text()))
    text = description.edit(describe(matrices()[SIMULATED]), {"gpu *": shared})
    path = folder / "tested.machine"
    path.write_text(text)
    printed = next(file for file in FILES if file.stem == SIMULATED).read_text()
    nvidia_smi.write(folder / "nvidia-smi", text, printed.partition("\n")[2])
    env = driver.environment(driver.build(driver.CACHE), path, base={})
    return TestedMachine(False, env, str(folder / "nvidia-smi"), watched=12.0)


def _every_gpu(text: str) -> list[tuple[str, str | None]]:
    section = next(one for one in description.parse(text) if one.name == description.EVERY_GPU)
    return [(key, value) for key, value in section.lines if not key.startswith(_OTHER_CARD)]
