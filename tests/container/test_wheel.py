"""The launcher as a package, in somebody else's image: the README's three lines on top of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import __version__
from testing.container import kernel
from testing.container.box import Box, Boxes, boxes
from testing.container.engine import DOCKER, Docker
from tools import image as project_image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build it on an image that has PyTorch and Jupyter and nothing of ours: one of our stages."""
    base, own = f"{image}-notebook", f"{image}-own"
    stage = project_image.build_command(DOCKER, tag=base, arguments={}, environ=os.environ)
    docker(*stage[1:-1], "--target", "notebook", stage[-1], timeout=600)
    context = tmp_path_factory.mktemp("own")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*wheel, context / "dist", ROOT], check=True, timeout=120)
    (context / "Dockerfile").write_text(f"FROM {base}\n{readme_lines()}")
    secret = [part for part in stage if part.startswith("id=ca")]
    with_ca = ["--secret", secret[0]] if secret else []
    docker("build", *with_ca, "--tag", own, str(context), timeout=300)
    return own


def readme_lines() -> str:
    """Return the README's lines, with this machine's CA for the one that downloads."""
    found = re.search(r"```dockerfile\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    trusting = "RUN --mount=type=secret,id=ca export PIP_CERT=/run/secrets/ca && "
    return found[1].replace("RUN ", trusting)


@pytest.fixture(scope="module")
def own_box(docker: Docker, built: str) -> Iterator[Box]:
    with boxes(docker, built) as started:
        yield start(started)


def start(started: Boxes) -> Box:
    box = started()
    box.wait_for_banner()
    return box


@pytest.mark.xdist_group("test_wheel")
def test_it_starts_and_people_get_in(own_box: Box) -> None:
    assert " Ready " in own_box.wait_for_banner()
    assert (
        kernel.connect(own_box).run_cell("import torch; print(torch.__version__)")
        == "2.6.0+cu124\n"
    )


@pytest.mark.xdist_group("test_wheel")
def test_its_commands_have_all_that_they_need(own_box: Box) -> None:
    """The programs of a box and the pages come with the wheel, beside the package."""
    assert f" {__version__}" in own_box.exec("launcher", "--version").stdout
    assert own_box.exec("launcher", "healthcheck", check=False).returncode == 0
    assert "running" in own_box.exec("launcher", "status").stdout
    assert "fabric" in own_box.exec("launcher", "explain", "driver.fabric_manager").stdout


@pytest.mark.xdist_group("test_wheel")
def test_where_jupyter_is_elsewhere_the_log_says_what_to_name(docker: Docker, built: str) -> None:
    with boxes(docker, built) as started:
        box = started("-e", "LAUNCHER_PYTHON=/usr/bin/python3")
        said = box.wait_for_log(r"jupyter \| Jupyter is not installed for (\S+), .*\n.*\n")[0]
        assert "/usr/bin/python3" in said
        assert "LAUNCHER_PYTHON=" in said
