"""Collecting Evidence of simulated machines, for the tests of what collects it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.detect import driver
from launcher.doctor import collect as doctor_collect
from launcher.doctor.libraries import CUDA
from launcher.doctor.trials import Programs
from launcher.model.evidence import Evidence
from launcher.model.machine import Machine
from testing.machines import answering, gpu, machine

EIGHT = machine(answering(*(gpu(index) for index in range(8))))


def collect(environ: dict[str, str], seen: Machine = EIGHT, **options: object) -> Evidence:
    programs = programs_from(options)
    given = {"with_torch": False, **options}
    return doctor_collect.collect(seen, environ, programs, **given)  # type: ignore[arg-type]


def programs_from(options: dict[str, object]) -> Programs:
    """Return how the children run, taking out of `options` what says so."""
    given = {"folder": options.pop("guest", driver.GUEST), "python": sys.executable, "user": None}
    names = ("python", "user", "deadline", "listener")
    return Programs(**given | {name: options.pop(name) for name in names if name in options})  # type: ignore[arg-type]


def hows(seen: Evidence) -> list[str]:
    return [trial.how for trial in seen.trials]


def stub(folder: Path, code: int = 34) -> Path:
    """Make a libcuda.so.1 that fails every call, as NVIDIA's stub does."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder.mkdir(parents=True)
    functions = ("cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString")
    source = "".join(f"int {name}(void) {{ return {code}; }}\n" for name in functions)
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-xc",
        "-",
        f"-Wl,-soname,{CUDA}",
        "-o",
        str(folder / CUDA),
    ]
    subprocess.run(command, input=source, text=True, check=True)
    return folder


REPORTS_ITS_ENVIRONMENT = """
import json, os
print(json.dumps({"outcome": "ok", "version": "2.6.0", "warnings": [
    os.environ.get("CUDA_VISIBLE_DEVICES", "unset"), os.environ["LD_LIBRARY_PATH"]]}))
"""


def guest(folder: Path, verify: str) -> str:
    """Make a folder of guests whose verify.py is the given text."""
    shutil.copy(Path(driver.GUEST) / "cuda.py", folder)
    (folder / "verify.py").write_text(verify)
    return str(folder)
