"""deploy/podman and deploy/kubernetes by Podman itself: `make test-podman`.

`make test` leaves it out: it installs Podman and downloads a newer one's generator of units.  The
box is one without PyTorch and Jupyter, of stages of the Dockerfile: 0.3 GB where the image is 5.9.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from testing.container import base_image
from testing.container.engine import DOCKER, PROGRAMS, Docker, poll
from tests.unit.deploy.test_kubernetes import FOLDER, build, pod, read
from tools import image

DEPLOY = FOLDER.parent
CDI = Path("/run/cdi/pytorch-cuda-tests.json")
HOOK = "nvidia-container-runtime-hook"
SSH_ALONE = {"name": "LAUNCHER_SERVICES", "value": "ssh"}
# What this machine may not raise is left as it is; runc knows the cgroups of every kernel.
CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""

Podman = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def small(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build a box without the user's environment; the end of the Dockerfile is as it is."""
    base_image.provide(docker)
    tags = {stage: f"{image.NAME}:podman-{stage}" for stage in ("system", "launcher")}
    for stage, tag in tags.items():
        *command, context = image.build_command(DOCKER, tag=tag, arguments={}, environ=os.environ)
        docker(*command[1:], "--target", stage, context, timeout=1800)
    text = (image.PROJECT / "Dockerfile").read_text()
    end = text[text.index("FROM ${FLAVOR}\n") :]
    begin = f"FROM {tags['system']}\nRUN python3 -m venv --without-pip /opt/venv\n"
    end = end.replace("FROM ${FLAVOR}\n", begin)
    file = tmp_path_factory.mktemp("small") / "Dockerfile"
    file.write_text(end.replace("--from=launcher ", f"--from={tags['launcher']} "))
    *command, context = image.build_command(DOCKER, tag=image.TAG, arguments={}, environ={})
    tag = f"{image.NAME}:podman"
    command[command.index("--tag") + 1] = tag
    docker(*command[1:], "--file", str(file), context, timeout=600)
    yield tag
    docker("rmi", tag, *tags.values(), check=False)


@pytest.fixture(scope="module")
def podman(
    docker: Docker, small: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Podman]:
    """Let Podman run with a store of the tests' own, in which the image has the kit's name."""
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(CONF)
    program = folder / "podman"
    store = f"--root {folder}/store --runroot {folder}/run"
    program.write_text(f'#!/bin/sh\nexec /usr/bin/podman {store} "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "CONTAINERS_CONF": f"{folder}/containers.conf",
    }

    def run(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(word) for word in words]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    archive = folder / "image.tar"
    docker("save", "--output", str(archive), small, timeout=300)
    run("podman", "load", "--input", archive)
    archive.unlink()
    run("podman", "tag", f"localhost/{small}", f"localhost/{image.TAG}")
    CDI.parent.mkdir(parents=True, exist_ok=True)
    CDI.write_text(json.dumps(cdi()))
    yield run
    CDI.unlink()
    run("podman", "pod", "rm", "--force", "--all", check=False)
    run("podman", "rm", "--force", "--volumes", "--all", check=False)
    run("podman", "system", "reset", "--force", check=False)


def cdi() -> dict[str, Any]:
    """Return what `nvidia-ctk cdi generate` writes, of the simulated driver: its hook does all."""
    path = ":".join((str(PROGRAMS), os.environ["PATH"], "/usr/sbin", "/sbin"))
    hook = {
        "hookName": "prestart", "path": str(PROGRAMS / HOOK), "args": [HOOK, "prestart"],
        "env": [f"NVSIM_HOOK_DIR={PROGRAMS}", f"PATH={path}"],
    }  # fmt: skip
    device = {"name": "all", "containerEdits": {"hooks": [hook]}}
    return {"cdiVersion": "0.3.0", "kind": "nvidia.com/gpu", "devices": [device]}


def logs(podman: Podman, name: str) -> str:
    done = podman("podman", "logs", name, check=False)
    return done.stdout + done.stderr


def wait_for_banner(podman: Podman, name: str) -> str:
    assert poll(lambda: " Ready " in logs(podman, name), timeout=60), logs(podman, name)
    return logs(podman, name)


def test_the_script_starts_a_box_with_every_gpu(podman: Podman) -> None:
    podman("sh", DEPLOY / "podman" / "run.sh", "-d", "-e", "LAUNCHER_SERVICES=ssh")
    banner = wait_for_banner(podman, "box")
    assert "8 × NVIDIA H100 80GB HBM3" in banner
    assert "8.0 GiB /dev/shm" in banner
    assert "container port 22, here 2222" in banner
    podman("podman", "healthcheck", "run", "box")
    host_key = banner.partition("host key ")[2].split()[0]
    podman("podman", "stop", "box")
    assert podman("podman", "inspect", "box", "--format", "{{.State.ExitCode}}").stdout == "0\n"
    podman("podman", "rm", "box")
    podman("sh", DEPLOY / "podman" / "run.sh", "-d", "-e", "LAUNCHER_SERVICES=ssh")
    assert host_key in wait_for_banner(podman, "box"), "its state is a volume"
    podman("podman", "rm", "--force", "box")


def manifest(overlay: str) -> list[dict[str, Any]]:
    """Return what Podman plays: it knows no StatefulSet, so the pod and the claims that it makes.

    Podman 4.3 decodes no secret's text, leaves out one that is optional, and fails without it.
    """
    objects = read(build(FOLDER / "overlays" / overlay))
    spec = pod(objects)
    spec["containers"][0]["env"].append(SSH_ALONE)
    claims = []
    for claim in objects["StatefulSet"]["spec"]["volumeClaimTemplates"]:
        name = claim["metadata"]["name"]
        claims.append({**claim, "kind": "PersistentVolumeClaim"})
        spec["volumes"].append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    secrets = []
    for name, key in (("box", "token"), ("box-keys", "ada")):
        data = {key: base64.b64encode(b"0123456789abcdef").decode()}
        secrets.append({"kind": "Secret", "metadata": {"name": name}, "data": data})
    whole = {"kind": "Pod", "metadata": {"name": "box-0"}, "spec": spec}
    return [{"apiVersion": "v1", **one} for one in (*secrets, *claims, whole)]


@pytest.mark.parametrize(("overlay", "uid"), [("gpu", 0), ("cpu", 0), ("nonroot", 1000)])
def test_the_pod_of_kubernetes_is_played(
    podman: Podman, tmp_path: Path, overlay: str, uid: int
) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(yaml.safe_dump_all(manifest(overlay)))
    podman("podman", "secret", "rm", "box", "box-keys", check=False)
    podman("podman", "volume", "rm", "--all", "--force", check=False)
    podman("podman", "kube", "play", file)
    banner = wait_for_banner(podman, "box-0-box")
    assert "Runs as   dev (uid 1000)" in banner
    inside = podman("podman", "exec", "box-0-box", "sh", "-c", "id -u; launcher healthcheck")
    assert inside.stdout.splitlines()[0] == str(uid)
    podman("podman", "kube", "down", file)


def test_a_generator_of_units_makes_a_service_of_the_quadlet(tmp_path: Path) -> None:
    """Podman 5.4's, of Debian 13: Debian 12's Podman has none."""
    quadlet = provide_quadlet(tmp_path)

    def generate(folder: Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "QUADLET_UNIT_DIRS": str(folder)}
        return subprocess.run(
            [quadlet, "-dryrun"], env=environment, capture_output=True, text=True, check=False
        )

    made = generate(DEPLOY / "podman").stdout
    (start,) = re.findall(r"^ExecStart=(.*)", made, re.MULTILINE)
    for words in ("--device nvidia.com/gpu=all", "--shm-size=8g", f"localhost/{image.TAG}"):
        assert words in start
    wrong = (DEPLOY / "podman" / "box.container").read_text().replace("AddDevice", "AddDevise")
    (tmp_path / "box.container").write_text(wrong)
    assert "unsupported key 'AddDevise'" in generate(tmp_path).stderr


def archive() -> str:
    """Return where this machine has Debian's packages from; there is Debian 13's as well."""
    asked = ["apt-get", "indextargets", "--format", "$(SITE) $(SUITE)", "Component: main"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    sites = (line.split()[0] for line in said.splitlines() if not line.endswith("-security"))
    return next(sites)


def provide_quadlet(folder: Path) -> Path:
    """Download the package of Debian 13 and unpack it; nothing of it is installed."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources = f"deb [signed-by={key}] {archive()} trixie main\n"
    (folder / "sources.list").write_text(sources)
    options = [
        f"Dir::Etc::sourcelist={folder}/sources.list", "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State::lists={folder}/lists", f"Dir::Cache={folder}/cache",
        "APT::Sandbox::User=root",
    ]  # fmt: skip
    apt = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
    for task in (["update"], ["download", "podman"]):
        subprocess.run([*apt, *task], cwd=folder, check=True, capture_output=True, timeout=300)
    (package,) = folder.glob("podman_*.deb")
    subprocess.run(["dpkg", "-x", package, folder / "podman"], check=True)
    return folder / "podman/usr/libexec/podman/quadlet"
