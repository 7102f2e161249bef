"""A platform's volume, where its own images keep their work."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.detect import adopted, mounts
from launcher.model.host import Mount
from launcher.settings import environ as own_environ
from launcher.settings.load import load_settings

ROOT_LINE = "1 0 0:1 / / rw - overlay overlay rw\n"
HUB = {"JUPYTERHUB_API_TOKEN": "x"}
KUBEFLOW = {"NB_PREFIX": "/n"}


def tree(path: Path, *lines: str) -> Path:
    """Return a root folder of the image with these mounts, all of a network's, so never asked."""
    (path / "proc/self").mkdir(parents=True)
    (path / "etc/launcher").mkdir(parents=True)
    (path / "etc/launcher/supervisord.conf").touch()
    text = ROOT_LINE + "".join(f"2 1 0:2 / {line} - nfs4 server:/x rw\n" for line in lines)
    (path / "proc/self/mountinfo").write_text(text)
    return path


@pytest.mark.parametrize(
    ("environ", "lines", "workspace", "home"),
    [
        (HUB, ["/home/jovyan rw"], "/home/jovyan", "/home/jovyan"),
        (KUBEFLOW, ["/home/jovyan rw", "/data rw"], "/home/jovyan", "/home/jovyan"),
        (KUBEFLOW, ["/home/jovyan/work rw"], "/home/jovyan/work", "/home/jovyan/work"),
        (KUBEFLOW, ["/mnt/me rw"], "/mnt/me", "/mnt/me"),
        (KUBEFLOW, ["/home/jovyan rw", "/home/dev rw"], "/home/jovyan", ""),
        (KUBEFLOW, ["/opt/app-root/src rw", "/mnt/b rw"], "/opt/app-root/src", "/opt/app-root/src"),
        (KUBEFLOW, ["/opt/venv rw", "/opt/app-root rw"], "/workspace", ""),
        (KUBEFLOW, ["/a rw", "/b rw"], "/workspace", ""),
        (KUBEFLOW, ["/home/jovyan ro"], "/workspace", ""),
        (KUBEFLOW, ["/home/jovyan rw", "/workspace rw"], "/workspace", ""),
        (KUBEFLOW, ["/etc/secret rw", "/dev/shm rw", "/tmp rw"], "/workspace", ""),
        (KUBEFLOW | {"WORKSPACE": "/w"}, ["/home/jovyan rw"], "/w", ""),
        ({}, ["/home/jovyan rw"], "/workspace", ""),
        ({"CODER_WORKSPACE_NAME": "w"}, ["/home/coder rw"], "/home/coder", "/home/coder"),
    ],
)
def test_which_volume_is_home_and_workspace(
    tmp_path: Path, environ: dict[str, str], lines: list[str], workspace: str, home: str
) -> None:
    found = adopted.adopt(load_settings(environ), tree(tmp_path, *lines))
    assert (found.workspace, found.home) == (workspace, home)


@pytest.mark.parametrize(
    ("environ", "lines", "here", "workspace"),
    [
        ({}, ["/app rw"], "/app", "/app"),
        ({}, ["/app rw"], "/app/deeper", "/app/deeper"),
        ({}, ["/var/jenkins_home rw"], "/var/jenkins_home/workspace/x", None),
        ({}, ["/app rw"], "/apple", "/workspace"),
        ({}, ["/app ro"], "/app", "/workspace"),
        ({}, ["/app rw", "/workspace rw"], "/app", "/workspace"),
        ({}, ["/app rw"], "/workspace", "/workspace"),
        ({}, ["/app rw"], "", "/workspace"),
        ({"WORKSPACE": "/w"}, ["/app rw"], "/app", "/w"),
        (KUBEFLOW, ["/home/jovyan rw", "/app rw"], "/app", "/home/jovyan"),
        (KUBEFLOW, ["/a rw", "/b rw"], "/b", "/b"),
    ],
)
def test_a_folder_of_ones_own_that_the_container_was_started_in(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    lines: list[str],
    here: str,
    workspace: str | None,
) -> None:
    monkeypatch.setattr(own_environ, "_started_in", [here])
    found = adopted.adopt(load_settings(environ), tree(tmp_path, *lines))
    assert found.workspace == (workspace or here)


def test_a_file_and_what_is_in_memory_are_no_volumes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = [
        Mount(f"{tmp_path}/file", "ext4"), Mount("/x", "tmpfs"), Mount("/", "ext4"),
        Mount("/y", "nfs4", writable=False), Mount("/z", "nfs4"), Mount("/z/deeper", "nfs4"),
    ]  # fmt: skip
    assert mounts.volumes(there) == ("/z",)
