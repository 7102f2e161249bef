"""A platform's usual configuration, with our image's name in it and nothing else of ours.

Each is one box: somebody reaches a cell and a shell there.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.container import kernel, pod
from testing.container.box import Box, Boxes
from testing.container.engine import DOCKER, Docker, poll
from testing.container.login import Login, make_key
from tools import devcontainer
from tools.image import TAG

DEPLOY = Path(__file__).parents[2] / "deploy"
PREFIX = "/notebook/ns/me"
CELL = "import os; open('kept', 'w').write('work'); print(os.getcwd(), os.getuid())"
SHELL = 'echo "$HOME $(pwd) $(id -un)"'
# Whatever is started besides may take a proxy that leads nowhere, and our own looks do not.
NOWHERE = {"HTTP_PROXY": "http://192.0.2.1:3128", "http_proxy": "http://192.0.2.1:3128"}


def jupyter_at(box: Box, path: str = "", token: str = "") -> kernel.Server:
    """Return Jupyter as it is reached from here, once it is there."""
    server = kernel.Server(f"http://127.0.0.1:{box.port(8888)}{path}/lab?token={token}")
    assert poll(server.answers, timeout=90), box.logs()
    return server


def in_a_terminal(server: kernel.Server, command: str) -> str:
    with server.terminal() as terminal:
        return terminal.run(command).strip()


# --- notebooks of Kubernetes' -------------------------------------------------------------------


def notebook(
    env: dict[str, str], path: str, *, group: int, security: dict[str, Any]
) -> dict[str, Any]:
    """Return the pod that a notebook controller makes of what its form says."""
    claim = {"claimName": "me-workspace"}
    return {
        "metadata": {"name": "me-0"},
        "spec": {
            "securityContext": {"fsGroup": group},
            "containers": [{
                "env": [{"name": name, "value": value} for name, value in env.items()],
                "securityContext": security,
                "resources": {},
                "volumeMounts": [
                    {"name": "work", "mountPath": path}, {"name": "shm", "mountPath": "/dev/shm"},
                ],
            }],
            "volumes": [
                {"name": "work", "persistentVolumeClaim": claim}, {"name": "shm", "emptyDir": {}},
            ],
        },
    }  # fmt: skip


# A service "me" is beside the pod, and Kubernetes tells it so ("Discovering services").
LINKS = {
    "ME_SERVICE_HOST": "10.0.0.9", "ME_SERVICE_PORT": "80", "ME_PORT": "tcp://10.0.0.9:80",
}  # fmt: skip


def test_kubeflow(box: Boxes, tmp_path: Path) -> None:
    """The claim of the form on /home/jovyan, a PodDefault that leaves the login to Istio.

    The controller's culler asks without a token, and tells a busy notebook by the answers
    (notebook-controller, culling_controller.go).
    """
    env = {"NB_PREFIX": PREFIX, "LAUNCHER_JUPYTER_AUTH": "proxy", **LINKS, **NOWHERE}
    asked = notebook(env, "/home/jovyan", group=100, security={})
    started = box(*pod.run_options(asked, tmp_path))
    server = jupyter_at(started, PREFIX)
    with server.kernel() as cells:
        assert cells.run(CELL).split() == ["/home/jovyan", "1000"]
        (one,) = server.request("/api/kernels").json()
        assert one["execution_state"] in ("idle", "busy")
        assert one["last_activity"]
    assert in_a_terminal(server, SHELL) == "/home/jovyan /home/jovyan dev"
    assert server.request("/api/terminals").status == 200
    assert (tmp_path / "me-workspace" / "kept").read_text() == "work"
    banner = " ".join(started.wait_for_banner().split())
    assert "no token (LAUNCHER_JUPYTER_AUTH=proxy): who reaches the port is let in" in banner
    assert "ends with the container" not in banner
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0


# What its dashboard writes for its own images, which split it at white space alone.
OPEN_DATA_HUB = f"""\
--ServerApp.port=8888
--ServerApp.token=''
--ServerApp.password=''
--ServerApp.base_url={PREFIX}
--ServerApp.quit_button=False
--ServerApp.tornado_settings={{"user":"me","hub_host":"https://odh.example","hub_prefix":"/p/ns"}}
"""
RESTRICTED = {
    "runAsUser": 1000650000, "runAsGroup": 0, "capabilities": {"drop": ["ALL"]},
    "allowPrivilegeEscalation": False,
}  # fmt: skip


def test_open_data_hub(box: Boxes, tmp_path: Path) -> None:
    """On OpenShift: a uid that nobody knows, in group 0; a proxy in the pod asks who it is."""
    env = {
        "NB_PREFIX": PREFIX, "NOTEBOOK_ARGS": OPEN_DATA_HUB, "JUPYTER_IMAGE": "pytorch-cuda:v2.6",
    }  # fmt: skip
    asked = notebook(env, "/opt/app-root/src", group=1000650000, security=RESTRICTED)
    started = box(*pod.run_options(asked, tmp_path), "-w", "/opt/app-root/src")
    server = jupyter_at(started, PREFIX)
    assert server.run_cell(CELL).split() == ["/opt/app-root/src", "1000650000"]
    assert in_a_terminal(server, SHELL) == "/opt/app-root/src /opt/app-root/src dev"
    assert (tmp_path / "me-workspace" / "kept").read_text() == "work"
    assert "no token (LAUNCHER_JUPYTER_AUTH=proxy)" in started.wait_for_banner()
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0


# --- rented machines, and images for SSH --------------------------------------------------------


def test_vast_in_entrypoint_mode(box: Boxes, tmp_path: Path) -> None:
    """Its template's own variables; people come as root, as they do to its own images."""
    key = make_key(tmp_path)
    token = "5f3c0a"
    env = {
        "VAST_CONTAINERLABEL": "C.1234", "CONTAINER_ID": "1234", "CONTAINER_API_KEY": "abc",
        "PUBLIC_IPADDR": "203.0.113.7", "VAST_TCP_PORT_22": "40022", "VAST_TCP_PORT_8888": "40888",
        "VAST_TCP_PORT_1111": "40111", "VAST_UDP_PORT_70000": "40700", "GPU_COUNT": "1",
        "OPEN_BUTTON_PORT": "1111", "OPEN_BUTTON_TOKEN": token, "JUPYTER_DIR": "/",
        "DATA_DIRECTORY": "/workspace/", "SSH_PUBLIC_KEY": key.public, "TZ": "UTC",
        "PORTAL_CONFIG": "localhost:1111:11111:/:Instance Portal|localhost:8888:18888:/:Jupyter",
    }  # fmt: skip
    started = box(env=env)
    banner = started.wait_for_banner()
    assert f"http://203.0.113.7:40888/lab?token={token}" in banner
    assert "ssh -p 40022 dev@203.0.113.7" in banner
    assert jupyter_at(started, token=token).run_cell(CELL).split() == ["/workspace", "1000"]
    for user in ("dev", "root"):
        said = Login(started.port(22), user, key).ssh('id -un; echo "$WORKSPACE"').stdout
        assert said.split() == [user, "/workspace"]


def test_linuxserver_s_openssh_server(box: Boxes, tmp_path: Path) -> None:
    """Its Compose file with keys in every way that it knows, and its volume on /config."""
    keys = [make_key(tmp_path) for _ in range(3)]
    (tmp_path / "file.pub").write_text(f"{keys[1].public}\r\n")
    (tmp_path / "config").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "me.pub").write_text(keys[2].public)
    env = {
        "PUID": "1001", "PGID": "1001", "TZ": "Asia/Tokyo", "SUDO_ACCESS": "false",
        "PUBLIC_KEY": keys[0].public, "PUBLIC_KEY_FILE": "/me.pub", "PUBLIC_KEY_DIR": "/keys",
        "PASSWORD_ACCESS": "false", "USER_NAME": "linuxserver.io", "LOG_STDOUT": "",
        "LISTEN_PORT": "2222",
    }  # fmt: skip
    mounts = (
        "-v", f"{tmp_path}/file.pub:/me.pub", "-v", f"{tmp_path}/folder:/keys",
        "-v", f"{tmp_path}/config:/config",
    )  # fmt: skip
    started = box(*mounts, "-p", "127.0.0.1::2222", "-p", "127.0.0.1::8888", env=env)
    banner = " ".join(started.wait_for_banner().split())
    assert "3 public keys may log in" in banner
    assert "a volume is mounted on /config, which nothing here opens" in banner
    assert "USER_NAME" in started.logs()
    for key in keys:
        login = Login(started.port(2222), "dev", key)
        said = login.ssh("id -u; id -g; date +%Z; sudo -n id").stdout
        assert said.split() == ["1001", "1001", "JST"]
    url = kernel.printed_url(banner)
    server = jupyter_at(started, token=url.partition("token=")[2])
    assert server.run_cell(CELL).split() == ["/workspace", "1001"]


# --- Dev Containers ------------------------------------------------------------------------------


class DevContainer:
    """The folder of a project, and the command line that VS Code starts its container with."""

    def __init__(self, docker: Docker, folder: Path) -> None:
        self._docker = docker
        self._options = ("--workspace-folder", str(folder), "--docker-path", DOCKER)
        self._program = devcontainer.provide()

    def __call__(self, command: str, *words: str) -> str:
        done = subprocess.run(
            [self._program, command, *self._options, *words],
            env=self._docker.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def project(docker: Docker, tmp_path: Path) -> Iterator[DevContainer]:
    (tmp_path / ".devcontainer").mkdir()
    yield DevContainer(docker, tmp_path)
    ours = f"label=devcontainer.local_folder={tmp_path}"
    if left := docker("ps", "--all", "--quiet", "--filter", ours).stdout.split():
        docker("rm", "--force", "--volumes", *left)


def test_a_devcontainer_with_the_image_alone(
    project: DevContainer, docker: Docker, image: str, tmp_path: Path
) -> None:
    """By the real program; its label asks it to leave the entrypoint in place."""
    write_fields(tmp_path, {"image": image})
    box = Box(docker, json.loads(project("up"))["containerId"])
    banner = " ".join(box.wait_for_banner().split())
    folder = f"/workspaces/{tmp_path.name}"
    assert f"a volume is mounted on {folder}, which nothing here opens" in banner
    shown = project("exec", "bash", "-ic", 'pwd; echo "$WORKSPACE"')
    assert shown.split() == [folder, "/workspace"]
    url = project("exec", "launcher", "url").strip()
    place = f"{box.inspect()['NetworkSettings']['IPAddress']}:8888"
    server = kernel.Server(url.replace("127.0.0.1:8888", place))
    assert server.run_cell(CELL).split() == ["/workspace", "1000"]


def write_fields(project: Path, fields: dict[str, Any]) -> None:
    (project / ".devcontainer" / "devcontainer.json").write_text(json.dumps(fields))


def test_a_devcontainer_with_the_file_of_deploy(
    project: DevContainer, docker: Docker, image: str, tmp_path: Path
) -> None:
    """deploy/devcontainer/devcontainer.json: the project is the workspace, whose user types."""
    fields = json.loads((DEPLOY / "devcontainer" / "devcontainer.json").read_text())
    state = f"pcl-state-{os.getpid()}"
    os.chown(tmp_path, 1000, 1000)  # a project is its user's
    (mount,) = fields["mounts"]
    assert fields["image"] == TAG
    # Only names: the image of this run, a volume that nobody else has, and no Jupyter to wait for.
    mounts = [mount.replace("source=pytorch-cuda-state-${devcontainerId}", f"source={state}")]
    write_fields(
        tmp_path,
        {
            **fields,
            "image": image,
            "mounts": mounts,
            "containerEnv": {"LAUNCHER_SERVICES": "ssh", "LAUNCHER_CHECK_PYTORCH": "off"},
        },
    )
    try:
        # It looks for NVIDIA's runtime, which the engine of the tests has not: there it is a hook.
        started = json.loads(project("up", "--gpu-availability", "all"))
        box = Box(docker, started["containerId"])
        assert "NVIDIA H100 80GB HBM3" in box.wait_for_banner()
        assert box.inspect()["HostConfig"]["ShmSize"] == 8 << 30
        project("exec", "touch", "made-there")
        shown = project("exec", "bash", "-ic", 'id -un; pwd; echo "$CUDA_VISIBLE_DEVICES"')
        assert shown.split() == ["dev", "/workspace", "0,1,2,3,4,5,6,7"]
        assert (tmp_path / "made-there").exists()
        assert box.exec("ls", "/var/lib/launcher").stdout != ""
        assert state in json.dumps(box.inspect()["Mounts"])
    finally:
        box.remove()
        docker("volume", "rm", state, check=False)
