"""Start the launcher on this machine: `make run-local`.

The same entrypoint as the image's, as the current user, with what the image has in /opt/venv in
`.venv` and everything it writes under `.launcher`.  What the user set in the environment is kept.
"""

from __future__ import annotations

import os
import platform
import pwd
import sys
from collections.abc import Mapping
from pathlib import Path

from tools import ports, system_packages, venv
from tools.engine import has_nvidia_driver
from tools.image import default_torch
from tools.torch_build import find_cpu_version

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".launcher"


def start() -> None:
    """Set everything up, then become the launcher."""
    print(announcement(), end="", flush=True)
    venv.provide("run")
    _provide_torch()
    if not system_packages.provide("ssh"):
        print("Without OpenSSH there is no SSH; everything else works.", flush=True)
    environment = {**_defaults(os.environ), **os.environ}
    environment["PATH"] = f"{venv.PYTHON.parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin"
    Path(environment["WORKSPACE"]).mkdir(parents=True, exist_ok=True)
    # -I, as in the image: the folder it is started in is not a place to import from.
    command = [str(venv.PYTHON), "-I", str(PROJECT / "entrypoint.py")]
    os.execve(command[0], command, environment)


def announcement() -> str:
    """Return what will be installed, all of it before any; nothing where that was done before."""
    if venv.is_installed("run", venv.SETS["run"]):
        return ""
    torch = "6 GB with CUDA" if has_nvidia_driver() else "1 GB, where pip finds a CPU build"
    return (
        f"To be installed into .venv: the launcher and JupyterLab ({venv.SIZES['run']} on disk),\n"
        f"then PyTorch ({torch}).  What there is already is taken as it is.\n"
    )


def _defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that make a box of this machine, for those the user did not choose."""
    listen = environ.get("LAUNCHER_LISTEN", "127.0.0.1")
    jupyter = ports.first_free(8888, address=listen)
    return {
        "LAUNCHER_STATE_DIR": str(FOLDER / "state"),
        "LAUNCHER_RUN_DIR": str(FOLDER / "run"),
        "LAUNCHER_LISTEN": listen,
        "LAUNCHER_PYTHON": str(venv.PYTHON),
        "JUPYTER_PORT": str(jupyter),
        "SSH_PORT": str(ports.first_free(2222, address=listen, taken=[jupyter])),
        "NB_USER": pwd.getpwuid(os.getuid()).pw_name,
        "WORKSPACE": str(FOLDER / "workspace"),
    }


def _provide_torch() -> None:
    """Install PyTorch: the image's pins for a GPU, else a CPU build if pip finds one."""
    if has_nvidia_driver():
        venv.install("torch", tuple(default_torch().split()))
        return
    version = find_cpu_version(platform.python_version())
    if version is None:
        print(
            "No PyTorch: this machine has no NVIDIA driver, and pip finds no CPU build of torch.\n"
            f"  to have one all the same: {venv.PYTHON} -m pip install torch",
            file=sys.stderr,
            flush=True,
        )
        return
    venv.install("torch", (f"torch=={version}",))
