"""What a process of ours imports, told by an interpreter that has imported nothing yet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code: str, *options: str) -> str:
    """Return what `code` prints in a Python of its own, which finds this project.

    Args:
        options: of the interpreter: "-S" leaves out what a virtual environment imports.
    """
    command = [sys.executable, "-I", *options, "-c"]
    whole = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run([*command, whole], capture_output=True, text=True, check=True)
    return done.stdout.strip()
