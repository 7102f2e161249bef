"""deploy/compose.yaml, as it is, by docker-compose: a box with GPUs that stays itself."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.box import Box
from testing.container.engine import Docker
from testing.local_box import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = ("compose.yaml", "compose.secrets.yaml")
PROJECT = f"pcl{os.getpid()}"
TOKEN = "from-a-file-beside-it"


class Compose:
    """`docker-compose` on the two files, with what a user sets in the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._start = ["docker-compose", "--project-name", PROJECT]
        self._start += [part for name in FILES for part in ("--file", str(DEPLOY / name))]

    def __call__(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._start, *arguments],
            env=dict(self._environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def ports() -> list[int]:
    return free_ports(2)


@pytest.fixture
def compose(docker: Docker, image: str, ports: list[int], tmp_path: Path) -> Iterator[Compose]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "keys").write_text("")
    command = Compose(
        {
            **docker.environment,
            "IMAGE": image,
            "BOX": PROJECT,
            "JUPYTER_PORT_HOST": str(ports[0]),
            "SSH_PORT_HOST": str(ports[1]),
            "TOKEN_FILE": str(tmp_path / "token"),
            "AUTHORIZED_KEYS": str(tmp_path / "keys"),
        }
    )
    yield command
    command("down", "--volumes", "--timeout", "10")


def test_up_is_a_box_with_gpus_and_up_again_is_the_same_box(
    docker: Docker, compose: Compose, ports: list[int]
) -> None:
    compose("up", "--detach")
    box = Box(docker, PROJECT)  # by the name that it was given
    banner = box.wait_for_banner()
    assert f"http://127.0.0.1:{ports[0]}/lab?token={TOKEN}" in banner
    assert box.inspect()["HostConfig"]["ShmSize"] == 8 << 30
    assert "NVIDIA H100 80GB HBM3" in banner
    cell = "import os; open('/workspace/kept', 'w'); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    server = kernel.Server(kernel.printed_url(banner))
    assert server.run_cell(cell) == "0,1,2,3,4,5,6,7\n"
    host_key = banner.partition("host key ")[2].split()[0]

    compose("down", "--timeout", "10")
    compose("up", "--detach")
    again = Box(docker, PROJECT)
    assert host_key in again.wait_for_banner()
    assert "kept" in again.exec("ls", "/workspace").stdout
