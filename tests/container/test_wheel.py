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

# What NVIDIA's PyTorch images have: PyTorch and Jupyter in the distribution's own Python, below
# /usr/local; pins for pip that contradict ours; an entrypoint whose scripts export what their
# libraries need.
NGC = """
RUN mkdir -p /etc/pip && echo 'paramiko==2.0.0' > /etc/pip/constraint.txt \\
 && rm -rf /usr/local/lib/python3.11/dist-packages \\
 && ln -s /opt/venv/lib/python3.11/site-packages /usr/local/lib/python3.11/dist-packages \\
 && ln -s /opt/venv/share/jupyter /usr/local/share/ \\
 && rm -r /opt/venv/bin /opt/venv/pyvenv.cfg
ENV PIP_CONSTRAINT=/etc/pip/constraint.txt
ENV LAUNCHER_PYTHON=/usr/bin/python3
COPY --chmod=0755 nvidia_entrypoint.sh /opt/nvidia/
"""
ENTRYPOINT = """#!/bin/sh
echo "== PyTorch =="
export OPAL_PREFIX=/opt/hpcx/ompi
exec "$@"
"""


@pytest.fixture(scope="module")
def built(docker: Docker, image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build it on an image that has PyTorch and Jupyter and nothing of ours: one of our stages."""
    base, own = f"{image}-notebook", f"{image}-own"
    stage = project_image.build_command(DOCKER, tag=base, arguments={}, environ=os.environ)
    docker(*stage[1:-1], "--target", "notebook", stage[-1], timeout=600)
    context = tmp_path_factory.mktemp("own")
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*wheel, context / "dist", ROOT], check=True, timeout=120)
    (context / "nvidia_entrypoint.sh").write_text(ENTRYPOINT)
    (context / "Dockerfile").write_text(f"FROM {base}\n{NGC}{readme_lines()}")
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
    """Start it behind the entrypoint of NVIDIA's images; the last test starts it by its own."""
    entrypoint = ("--entrypoint", "/opt/nvidia/nvidia_entrypoint.sh")
    box = started(*entrypoint, command=("launcher", "start"))
    box.wait_for_banner()
    return box


@pytest.mark.xdist_group("test_wheel")
def test_it_starts_and_people_get_in(own_box: Box) -> None:
    assert " Ready " in own_box.wait_for_banner()
    assert "== PyTorch ==" in own_box.logs()
    cell = "import os, sys, torch; print(torch.__version__, sys.prefix, os.environ['OPAL_PREFIX'])"
    assert kernel.connect(own_box).run_cell(cell) == "2.6.0+cu124 /usr /opt/hpcx/ompi\n"


@pytest.mark.xdist_group("test_wheel")
def test_its_commands_have_all_that_they_need(own_box: Box) -> None:
    """The programs of a box and the pages come with the wheel, beside the package."""
    said = own_box.exec("launcher", "--version").stdout
    assert f" {__version__}" in said
    assert "2.6.0+cu124" in said, "the PyTorch of the base's own Python"
    assert own_box.exec("launcher", "healthcheck", check=False).returncode == 0
    assert "running" in own_box.exec("launcher", "status").stdout
    assert "fabric" in own_box.exec("launcher", "explain", "driver.fabric_manager").stdout


@pytest.mark.xdist_group("test_wheel")
def test_where_jupyter_is_elsewhere_the_log_says_so_once(docker: Docker, built: str) -> None:
    with boxes(docker, built) as started:
        box = started("-e", "LAUNCHER_PYTHON=")  # so it is the launcher's own environment
        assert box.wait() == 78
        said = box.logs()
        assert said.count("Jupyter is not installed for /opt/launcher/bin/python") == 1
        assert said.count("LAUNCHER_PYTHON=") == 1
        assert "launcher: jupyter cannot run here, as it says above, so the container ends" in said
