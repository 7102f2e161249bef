"""The other files of deploy/: each field is one that its tool knows."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
from fnmatch import filter as filter_names
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from launcher.settings import load
from launcher.settings.other_images import NO_SETTING, NOT_SUPPORTED
from tools.image import TAG

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())
SETTINGS = {name for row in load.TABLE for name in (row.name, *row.aliases)}
KNOWN = SETTINGS | set(NO_SETTING) | {row.name for row in NOT_SUPPORTED}

# podman-systemd.unit(5), "Container units [Container]": what is used of it, and the release whose
# notes have it.  Where one key is not known, the whole unit is left out.
QUADLET = {
    "Image": (4, 4), "ContainerName": (4, 4), "AddDevice": (4, 4), "PublishPort": (4, 4),
    "Environment": (4, 4), "Volume": (4, 4), "PodmanArgs": (4, 4), "SecurityLabelDisable": (4, 5),
    "HealthCmd": (4, 5), "HealthInterval": (4, 5), "HealthStartPeriod": (4, 5), "ShmSize": (4, 7),
}  # fmt: skip
# containers.dev, "devcontainer.json reference".
DEVCONTAINER = {
    "name": str, "image": str, "overrideCommand": bool, "remoteUser": str,
    "updateRemoteUserUID": bool, "workspaceMount": str, "workspaceFolder": str, "runArgs": list,
    "hostRequirements": dict, "mounts": list, "forwardPorts": list, "portsAttributes": dict,
    "customizations": dict,
}  # fmt: skip
# RunPod's REST API, "Create a template".
RUNPOD = {
    "name": str, "imageName": str, "dockerEntrypoint": list, "dockerStartCmd": list,
    "containerDiskInGb": int, "volumeInGb": int, "volumeMountPath": str, "ports": list, "env": dict,
}  # fmt: skip
# Vast.ai's templates, as its own base images have them.
VAST = {
    "name": str, "image": str, "tag": str, "runtype": str, "args": list, "onstart": str,
    "ports": list, "env": dict, "extra_filters": dict,
}  # fmt: skip

# Which test reads each of them, and the word that it reads them by.
HELD_BY = {
    "compose.yaml": ("container/test_compose.py", "compose.yaml"),
    "compose.secrets.yaml": ("container/test_compose.py", "compose.secrets.yaml"),
    "compose.cpu.yaml": ("unit/deploy/test_compose.py", "compose.cpu.yaml"),
    "compose.cluster.yaml": ("container/test_cluster.py", "compose.cluster.yaml"),
    "cluster/train.py": ("container/test_cluster_torchrun.py", "train.py"),
    "slurm/train.sbatch": ("container/test_cluster_slurm.py", "train.sbatch"),
    "kubernetes/base/*": ("unit/deploy/test_kubernetes.py", '"base"'),
    "kubernetes/overlays/*": ("unit/deploy/test_kubernetes.py", '"overlays"'),
    "kubernetes/job/job.yaml": ("unit/deploy/test_kubernetes.py", "job.yaml"),
    "kubernetes/cluster/indexed-job.yaml": ("unit/deploy/test_cluster.py", "indexed-job.yaml"),
    "kubernetes/cluster/jobset.yaml": ("unit/deploy/test_cluster.py", "jobset.yaml"),
    "kubernetes/cluster/trainer.yaml": ("unit/deploy/test_cluster.py", "trainer.yaml"),
    "jupyterhub/jupyterhub_config.py": ("unit/deploy/test_jupyterhub.py", "jupyterhub_config.py"),
    "jupyterhub/values.yaml": ("container/test_jupyterhub.py", "values.yaml"),
    "grafana/*.json": ("unit/deploy/test_grafana.py", "BOARDS"),
    "grafana/alerts.yml": ("container/test_metrics.py", "alerts.yml"),
    "grafana/prometheus.yml": ("container/test_metrics.py", "prometheus.yml"),
    "grafana/README.md": ("unit/deploy/test_others.py", "README.md"),  # the page is spoken of
    "podman/box.container": ("unit/deploy/test_others.py", "box.container"),
    "podman/run.sh": ("unit/deploy/test_others.py", "run.sh"),
    "devcontainer/devcontainer.json": ("container/test_platforms.py", '"devcontainer.json"'),
    "runpod/template.json": ("unit/deploy/test_others.py", "template.json"),
    "vast/template.yml": ("unit/deploy/test_others.py", "template.yml"),
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_each_file_is_read_by_a_test(path: Path) -> None:
    name = path.relative_to(DEPLOY).as_posix()
    (held,) = (HELD_BY[pattern] for pattern in HELD_BY if fnmatch(name, pattern))
    test, word = held
    assert word in (ROOT / "tests" / test).read_text()


def test_each_row_is_of_a_file_that_is_there() -> None:
    names = [path.relative_to(DEPLOY).as_posix() for path in FILES]
    assert [pattern for pattern in HELD_BY if not filter_names(names, pattern)] == []


def test_every_file_is_spoken_of_on_the_page() -> None:
    page = (ROOT / "docs" / "deploy.md").read_text()
    folders = {path.relative_to(DEPLOY).parts[0] for path in FILES}
    assert [name for name in sorted(folders) if f"deploy/{name}" not in page] == []
    links = re.findall(r"\]\((\.\./deploy/[^)]+)\)", page)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_its_variables_are_settings_that_there_are(path: Path) -> None:
    named = set(re.findall(r"\b(?:LAUNCHER|JUPYTER|SSH)_[A-Z_]+\b", path.read_text()))
    assert named <= KNOWN | {"JUPYTER_PORT_HOST", "SSH_PORT_HOST"}


def test_quadlet() -> None:
    parser = configparser.ConfigParser(strict=False, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "podman" / "box.container")
    assert set(parser) - {"DEFAULT"} == {"Unit", "Container", "Service", "Install"}
    assert set(parser["Container"]) <= set(QUADLET)
    needed = "{}.{} or newer".format(*max(QUADLET[key] for key in parser["Container"]))
    assert f"Podman {needed}" in (DEPLOY / "podman" / "box.container").read_text()
    assert f"with {needed}" in (ROOT / "docs" / "deploy.md").read_text()
    assert parser["Container"]["PodmanArgs"] == "--shm-size=8g"
    assert parser["Container"]["Image"] == f"localhost/{TAG}"
    assert parser["Container"]["AddDevice"] == "nvidia.com/gpu=all"
    assert parser["Container"]["HealthCmd"] == "/usr/local/bin/launcher healthcheck"


def test_podman_by_hand_is_what_the_unit_says(tmp_path: Path) -> None:
    """The script runs, with a podman that tells what it was given."""
    podman = tmp_path / "podman"
    podman.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    podman.chmod(0o755)
    done = subprocess.run(
        ["sh", DEPLOY / "podman" / "run.sh", "-e", "PUBLIC_KEY=a b"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[0] == "run"
    assert words[-3:] == ["-e", "PUBLIC_KEY=a b", f"localhost/{TAG}"]
    unit = (DEPLOY / "podman" / "box.container").read_text()
    assert {f"Volume={words[i + 1]}" for i, word in enumerate(words) if word == "-v"} == set(
        re.findall(r"^Volume=.*", unit, re.MULTILINE)
    )
    assert {f"PublishPort={words[i + 1]}" for i, word in enumerate(words) if word == "-p"} == set(
        re.findall(r"^PublishPort=.*", unit, re.MULTILINE)
    )


def typed(fields: dict[str, Any], known: dict[str, type]) -> list[str]:
    """Return the fields that are not known, or of another type."""
    return [name for name, value in fields.items() if not isinstance(value, known.get(name, ()))]


def test_devcontainer() -> None:
    fields = json.loads((DEPLOY / "devcontainer" / "devcontainer.json").read_text())
    assert typed(fields, DEVCONTAINER) == []
    assert fields["image"] == TAG
    assert fields["overrideCommand"] is False, "else `sleep` takes the launcher's place"
    assert typed({"remoteUser": 5}, DEVCONTAINER) == ["remoteUser"]
    volumes = [mount for mount in fields["mounts"] if "type=volume" in mount]
    assert [mount for mount in volumes if "${devcontainerId}" not in mount] == [], (
        "shared by projects"
    )


def test_runpod() -> None:
    fields = json.loads((DEPLOY / "runpod" / "template.json").read_text())
    assert typed(fields, RUNPOD) == []
    assert (fields["dockerEntrypoint"], fields["dockerStartCmd"]) == ([], []), "the image's own"
    assert fields["ports"] == ["8888/http", "22/tcp"]
    # A secret that nobody made would leave its name as the token, and everybody can read that here.
    assert [name for name, value in fields["env"].items() if "{{" in value] == []
    assert set(fields["env"]) <= KNOWN


def test_vast() -> None:
    fields = yaml.safe_load((DEPLOY / "vast" / "template.yml").read_text())
    assert typed(fields, VAST) == []
    assert fields["runtype"] == "args", "jupyter and ssh would replace the entrypoint"
    assert set(fields["env"]) <= KNOWN | {"DATA_DIRECTORY", "OPEN_BUTTON_PORT"}
