"""Find a CPU build of PyTorch among what pip can install here.

PyPI's Linux wheels carry gigabytes of CUDA; CPU builds are named `X.Y.Z+cpu` and come from
another index or a local folder, if pip is configured to look there.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def find_cpu_version(python: str, *, python_version: str) -> str | None:
    """Return the newest `X.Y.Z+cpu` of torch for `python_version` ("3.11"), or None.

    `python` is an interpreter with pip; `pip index` looks at indexes and at find-links alike.
    """
    done = _pip(python, "index", "versions", "torch", *_for_python(python_version))
    versions = re.findall(r"\d[\w.]*\+cpu\b", done.stdout)
    return versions[0] if versions else None


def download(python: str, version: str, folder: Path, *, python_version: str) -> bool:
    """Put that wheel of torch alone into `folder`; say whether it worked."""
    folder.mkdir(parents=True, exist_ok=True)
    arguments = ["--no-deps", "--dest", str(folder), f"torch=={version}"]
    return _pip(python, "download", *_for_python(python_version), *arguments).returncode == 0


def _for_python(version: str) -> list[str]:
    return ["--python-version", version, "--only-binary", ":all:"]


def _pip(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
