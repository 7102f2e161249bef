"""Find a CPU build of PyTorch among what pip can install here.

PyPI's Linux wheels carry gigabytes of CUDA.  CPU builds are called `X.Y.Z+cpu`; they come from
another index or from a local folder, where pip is configured to look there.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile

from tools import venv
from tools.engine import docker_environment

FOLDER = venv.PROJECT / ".cache" / "torch"
WHEELS = venv.PROJECT / ".cache" / "wheels"
IMAGE_PYTHON = "3.11"  # of Debian bookworm, the Dockerfile's default base


def find_cpu_version(python_version: str) -> str | None:
    """Return the newest `X.Y.Z+cpu` of torch for that Python, or None."""
    # It looks at the configured indexes and at find-links folders alike.
    done = _pip("index", "versions", "torch", *_for_python(python_version))
    found = re.search(r"\b\d[\w.]*\+cpu\b", done.stdout)
    return found[0] if found else None


def provide_folder() -> None:
    """Put a CPU build for this Python into FOLDER, where there is one and it is not there yet."""
    if FOLDER.exists():
        return
    version = find_cpu_version(platform.python_version())
    if version is None:
        print("pip finds no CPU build of torch: the comparison with PyTorch's parser is left out")
        return
    print(f"installing torch {version} into {FOLDER.relative_to(venv.PROJECT)}", flush=True)
    unfinished = FOLDER.with_name("torch.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    if _pip("install", "--target", str(unfinished), f"torch=={version}").returncode == 0:
        unfinished.rename(FOLDER)


def provide_wheelhouse(docker: str, tag: str) -> str | None:
    """Make `tag` an image with the CPU build for our image in it; return its version, or None.

    A build sees neither this machine's wheel folders nor its pip configuration: the Dockerfile's
    build argument WHEELS takes an image instead.
    """
    venv.provide_pip()
    version = find_cpu_version(IMAGE_PYTHON)
    if version is None:
        return None
    for outdated in WHEELS.glob("torch-*.whl"):
        outdated.unlink()
    arguments = ["--no-deps", "--dest", str(WHEELS), f"torch=={version}"]
    if _pip("download", *_for_python(IMAGE_PYTHON), *arguments).returncode:
        return None
    _import(docker, tag)
    return version


def _import(docker: str, tag: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".Dockerfile") as dockerfile:
        dockerfile.write("FROM scratch\nCOPY *.whl /\n")
        dockerfile.flush()
        command = [docker, "build", "--quiet", "--tag", tag, "--file", dockerfile.name, str(WHEELS)]
        subprocess.run(command, env=docker_environment(), check=True, stdout=subprocess.DEVNULL)


def _for_python(version: str) -> list[str]:
    return ["--python-version", version, "--only-binary", ":all:"]


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [venv.PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
