"""Build the image and start it in a container: `make run-image`.

WORKSPACE (a folder of this machine) and TORCH are taken from the environment, and so are the
launcher's own settings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tools import engine, image, ports
from tools.torch_build import provide_wheelhouse

CPU_TAG = "pytorch-cuda:cpu"
WHEELHOUSE_TAG = "pytorch-cuda-wheels:cpu"
# Handed on to the launcher where they are set here, beside everything called LAUNCHER_….
SETTINGS = ("JUPYTER_TOKEN", "PUBLIC_KEY", "SSH_PUBLIC_KEY", "AUTHORIZED_KEYS")
GIB = 1 << 30
MOST_SHM_GIB = 8


def start(docker: str) -> None:
    """Build, then become `docker run`."""
    try:
        tag = _build(docker)
    except subprocess.CalledProcessError as err:
        sys.exit(f"cannot build the image: exit {err.returncode}, see above")
    command = run_command(
        docker,
        tag,
        environ=os.environ,
        gpus=engine.offers_gpus(docker, tag),
        memory=engine.memory_bytes(docker),
        tty=sys.stdin.isatty() and sys.stdout.isatty(),
    )
    print(" ".join(["docker", *command[1:]]), flush=True)
    os.execve(command[0], command, engine.docker_environment())


def run_command(
    docker: str, tag: str, *, environ: Mapping[str, str], gpus: bool, memory: int, tty: bool
) -> list[str]:
    """Return the `docker run` that suits this engine and these settings."""
    jupyter = ports.first_free(8888, address="0.0.0.0")
    ssh = ports.first_free(2222, address="0.0.0.0", taken=[jupyter])
    published = {"JUPYTER_PORT_HOST": jupyter, "SSH_PORT_HOST": ssh}
    command = [docker, "run", "--rm", *(["-it"] if tty else [])]
    command += ["--gpus", "all"] if gpus else []
    # The default, 64 MiB, is too little for DataLoader workers and NCCL.
    command += [f"--shm-size={max(1, min(MOST_SHM_GIB, memory // 2 // GIB))}g"]
    command += ["-p", f"{jupyter}:8888", "-p", f"{ssh}:22"]
    for name, port in published.items():
        command += ["-e", f"{name}={port}"]
    for name in sorted(environ):
        if name in SETTINGS or name.startswith("LAUNCHER_"):
            command += ["-e", name]
    workspace = environ.get("WORKSPACE")
    source = str(Path(workspace).resolve()) if workspace else "pytorch-cuda-workspace"
    command += ["-v", f"{source}:/workspace", "-v", "pytorch-cuda-state:/var/lib/launcher"]
    return [*command, tag]


def _build(docker: str) -> str:
    """Build the image that suits this machine; return its tag."""
    print(
        "Building the image: about 3.4 GB to download and 6 GB on disk, 0.5 and 1.9 GB for a CPU\n"
        "build. What was built before is taken as it is.",
        flush=True,
    )
    if "TORCH" in os.environ or engine.has_nvidia_driver():
        image.build(docker, arguments=image.chosen_arguments())
        return image.TAG
    version = provide_wheelhouse(docker, WHEELHOUSE_TAG)
    if version is None:
        print(
            "This machine has no NVIDIA driver, and pip finds no CPU build of torch here:\n"
            "building the CUDA variant, which is several gigabytes larger.",
            flush=True,
        )
        image.build(docker)
        return image.TAG
    print(f"No NVIDIA driver here: building the CPU variant, torch {version}.", flush=True)
    torch = {"TORCH": f"torch=={version}", "WHEELS": WHEELHOUSE_TAG}
    image.build(docker, tag=CPU_TAG, arguments=torch)
    return CPU_TAG
