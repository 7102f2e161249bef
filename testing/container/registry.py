"""A registry on this machine's loopback, and a second engine that has no image yet.

Both are for one test, `make test-pull`: what is pushed is pulled by somebody who has nothing yet.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testing.container.engine import CACHE, PATH, Docker, EngineError, dockerd, poll
from testing.local_box import free_ports

PROGRAM = "docker-registry"
BRIDGE = "pcl-pull0"
ADDRESS = "172.31.214.1/24"
START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 30.0


@contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """Serve an empty registry that stores in `folder`; yield its `ADDRESS:PORT`.

    Docker takes an address of 127.0.0.0/8 without TLS.
    """
    address = f"127.0.0.1:{free_ports(1)[0]}"
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": address},
    }
    (folder / "registry.yml").write_text(json.dumps(settings))  # which is YAML, too
    with _running([PROGRAM, "serve", str(folder / "registry.yml")], folder / "registry.log"):
        if not poll(lambda: _serves(address), timeout=START_TIMEOUT):
            raise EngineError(f"no registry: {(folder / 'registry.log').read_text()}")
        yield address


def _serves(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class SecondDocker(Docker):
    """The docker command line, talking to an engine whose socket is in `run`."""

    def __init__(self, run: Path) -> None:
        self.environment = {**Docker.environment, "DOCKER_HOST": f"unix://{run / 'docker.sock'}"}


@contextmanager
def empty_engine() -> Iterator[Docker]:
    """Run an engine without any image for the block, and leave nothing of it behind."""
    # Short, since the path of a socket has at most 107 bytes; the layers go where there is room.
    run, data = Path(tempfile.mkdtemp(dir="/run")), Path(tempfile.mkdtemp(dir=CACHE))
    docker = SecondDocker(run)
    try:
        _ip("link", "add", "name", BRIDGE, "type", "bridge")
        _ip("address", "add", ADDRESS, "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        with _running(dockerd(run, data, BRIDGE, BRIDGE), run / "dockerd.log"):
            if not poll(lambda: _answers(docker), timeout=START_TIMEOUT):
                raise EngineError(f"no second engine: {(run / 'dockerd.log').read_text()[-3000:]}")
            try:
                yield docker
            finally:
                if left := docker("ps", "--all", "--quiet").stdout.split():
                    docker("rm", "--force", "--volumes", *left)
    finally:
        _ip("link", "delete", BRIDGE)
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(data, ignore_errors=True)


def _answers(docker: Docker) -> bool:
    return docker("version", check=False).returncode == 0


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[None]:
    """Run a server for the block; it says into `log`."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, "PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
    finally:
        server.terminate()
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], env={"PATH": PATH}, check=True)
