"""The engine with our hook, and the image that all container tests share.

    python3 -m testing.container.built_image    provide both; keep the engine until input ends

Built beside whatever else runs first, so that nobody waits for it later.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sim import driver
from testing.container import base_image
from testing.container.engine import DOCKER, RUN, Docker, running_engine
from tools import image

# What `--gpus` gives a container that names no other machine: NVSIM_CONTAINER_MACHINE (sim).
MACHINE = "h100-8x"
BUILD_TIMEOUT = 1800.0  # seconds; the default pins are three gigabytes of downloads


@contextmanager
def engine() -> Iterator[Docker]:
    """Keep the engine running for the block, with NVIDIA's hook simulated."""
    with running_engine(lambda folder: driver.install_hook(folder, MACHINE)) as docker:
        yield docker


def provide(docker: Docker) -> str:
    """Build the image with its default pins, or find that nothing has changed; return its tag.

    One at a time: the others of a parallel run would only build the same.
    """
    tag = os.environ.get("IMAGE", image.TAG)
    with open(RUN / "build.lock", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        base_image.provide(docker)
        build = image.build_command(DOCKER, tag=tag, arguments={}, environ=os.environ)
        docker(*build[1:], timeout=BUILD_TIMEOUT)
    return tag


def main() -> None:
    with engine() as docker:
        print(f"built {provide(docker)}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
