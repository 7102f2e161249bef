"""Find a Docker Engine, and say what it offers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


class NoEngineError(RuntimeError):
    """No Docker Engine answers, or no client here can build with it."""


def docker_environment() -> dict[str, str]:
    """Return the environment for docker commands: BuildKit, which 20.10 has to be asked for."""
    return {**os.environ, "DOCKER_BUILDKIT": "1"}


def find_docker() -> str:
    """Return the first docker client on PATH that reaches an engine and can build images.

    Clients since 23.0 need the buildx plugin to build; one that lacks it may come first on PATH.
    """
    places = [f"{folder}/docker" for folder in os.get_exec_path()]
    clients = [client for client in places if shutil.which(client)]
    if not clients:
        raise NoEngineError("there is no docker command")
    answering = [client for client in clients if _succeeds(client, "version")]
    if not answering:
        raise NoEngineError("no Docker Engine answers (docker version)")
    for client in answering:
        if "--secret" in _output(client, "build", "--help"):
            return client
    raise NoEngineError("this docker cannot build images with BuildKit: install docker-buildx")


def offers_gpus(docker: str, image: str) -> bool:
    """Say whether `--gpus all` starts a container: only the engine knows, so ask it."""
    return _succeeds(docker, "run", "--rm", "--gpus", "all", "--entrypoint", "true", image)


def memory_bytes(docker: str) -> int:
    """Return the memory of the engine's machine, which may not be this one."""
    return int(_output(docker, "info", "--format", "{{.MemTotal}}") or 0)


def has_nvidia_driver() -> bool:
    """Say whether this machine has an NVIDIA kernel driver, or WSL's way to one."""
    places = ("/proc/driver/nvidia/version", "/usr/lib/wsl/lib/libcuda.so.1")
    return any(Path(place).exists() for place in places)


def _succeeds(*command: str) -> bool:
    return _run(*command).returncode == 0


def _output(*command: str) -> str:
    return _run(*command).stdout.strip()


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=docker_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
