"""Build the image that the container tests start: `python3 -m testing.container.image`.

It takes minutes, so `make test` begins with it and runs other tests meanwhile.  Whoever needs the
image calls `provide`: one builds, the others wait, and then find every step in Docker's cache.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from sim import driver
from testing.container import base_image
from testing.container.engine import DOCKER, RUN, Docker, EngineError, running_engine
from tools import image, system_packages

# What `--gpus` gives a container that names no other machine: NVSIM_CONTAINER_MACHINE (sim).
MACHINE = "h100-8x"
BUILD_TIMEOUT = 1800.0  # seconds; the default pins are three gigabytes of downloads


def install_gpu_hook(folder: Path) -> object:
    """Put NVIDIA's hook for `--gpus`, of the simulated driver, into `folder`."""
    return driver.install_hook(folder, MACHINE)


def provide(docker: Docker, *, shown: bool = False) -> str:
    """Build the project's image from its Dockerfile with its default pins; return its tag.

    `shown`: the build's steps go to this process's output as they are done.
    Raises EngineError with the end of the build's output.
    """
    tag = os.environ.get("IMAGE", image.TAG)
    with open(RUN / "image.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        base_image.provide(docker)
        build = image.build_command(DOCKER, tag=tag, arguments={}, environ=os.environ)
        if shown:
            command = [*build[:2], "--progress=plain", *build[2:]]
            subprocess.run(command, env=docker.environment, check=True, timeout=BUILD_TIMEOUT)
        else:
            docker(*build[1:], timeout=BUILD_TIMEOUT)
    return tag


def main() -> int:
    for packages in ("test", "containers"):
        system_packages.provide(packages)
    try:
        with running_engine(install_gpu_hook) as docker:
            print("the engine runs; making the base image and the image", flush=True)
            provide(docker, shown=True)
    except (EngineError, OSError, subprocess.SubprocessError) as err:
        print(f"cannot build the image: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
