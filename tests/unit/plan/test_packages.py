"""Where pip and uv install: into the image's environment, or into one on the workspace."""

from __future__ import annotations

import pytest

from launcher.model.host import Mount
from launcher.model.machine import GpuReport
from launcher.model.plan import Plan
from launcher.plan.plan import make_plan
from launcher.text.banner import render_banner
from testing.machines import PROBES, STARTED, STATE, machine, outset, settings
from testing.values import replace

VOLUME = (Mount("/", "overlay"), Mount("/workspace", "ext4"))
ASKED = {"LAUNCHER_PACKAGES": "workspace"}
FOLDER = "/workspace/.packages/python3.11"
ENDS = "Packages  end with the container: LAUNCHER_PACKAGES=workspace keeps them"


def box(mounts: tuple[Mount, ...] = VOLUME, **host: object):
    return machine(GpuReport(), mounts=mounts, **{"python_version": "3.11", **host})


def plan(environ: dict[str, str], fault: str | None = None, **host: object) -> Plan:
    state = replace(STATE, packages_fault=fault)
    return make_plan(outset(box(**host), settings(environ)), state)


def banner(made: Plan, **host: object) -> str:
    return render_banner(box(**host), made, PROBES, STARTED + 1, {})


def test_the_environment_comes_before_the_images_and_after_launcher() -> None:
    made = plan({**ASKED, "PATH": "/opt/launcher/command:/opt/venv/bin:/usr/bin"})
    environ = made.user_environment()
    assert environ["PATH"] == f"/opt/launcher/command:{FOLDER}/bin:/opt/venv/bin:/usr/bin"
    assert environ["JUPYTER_PATH"] == f"{FOLDER}/share/jupyter:/opt/venv/share/jupyter"
    assert environ["JUPYTER_CONFIG_PATH"] == f"{FOLDER}/etc/jupyter:/opt/venv/etc/jupyter"
    assert made.paths.python == f"{FOLDER}/bin/python"
    assert made.paths.jupyter == "/opt/venv/bin/python"
    assert f"Packages  pip and uv install into {FOLDER}" in banner(made)


def test_a_path_without_the_image_gets_both() -> None:
    environ = plan({**ASKED, "PATH": "/usr/bin", "JUPYTER_PATH": "/mine"}).user_environment()
    assert environ["PATH"] == f"{FOLDER}/bin:/opt/venv/bin:/usr/bin"
    assert environ["JUPYTER_PATH"].startswith(f"/mine:{FOLDER}/")


@pytest.mark.parametrize(
    ("environ", "host"),
    [({}, {}), ({**ASKED, "LAUNCHER_SAFE_MODE": "1"}, {}), (ASKED, {"python_version": ""}),
     (ASKED, {"workspace_writable": False}), ({"LAUNCHER_PACKAGES": "image"}, {})],
)  # fmt: skip
def test_otherwise_all_is_the_images(environ: dict[str, str], host: dict[str, object]) -> None:
    made = plan(environ, **host)
    assert made.packages.folder == ""
    assert made.paths.python == "/opt/venv/bin/python"
    assert ".packages" not in str(made.user_environment())


def test_what_could_not_be_made_is_said_and_not_used() -> None:
    made = plan(ASKED, fault="no program may run on it (noexec)")
    assert made.packages.folder == ""
    (note,) = [note for note in made.notes if note.id == "packages.not_kept"]
    assert "noexec" in note.what


@pytest.mark.parametrize(
    ("environ", "mounts", "said"),
    [
        ({}, VOLUME, True),
        ({}, VOLUME[:1], False),  # nothing else is kept, either
        ({}, (*VOLUME, Mount("/opt/venv", "ext4")), False),
        ({"LAUNCHER_PACKAGES": "image"}, VOLUME, False),  # somebody chose it
        (ASKED, VOLUME, False),
    ],
)
def test_the_banner_names_the_setting_where_packages_alone_are_lost(
    environ: dict[str, str], mounts: tuple[Mount, ...], said: bool
) -> None:
    lines = banner(plan(environ, mounts=mounts), mounts=mounts).splitlines()
    assert (f" {ENDS}" in lines) is said
    assert len(f" {ENDS}") <= 80


def test_a_command_outside_our_image_has_none() -> None:
    for image in (True, False):
        here = outset(box(image=image), settings(ASKED))
        assert bool(make_plan(here, None).packages.folder) is image
