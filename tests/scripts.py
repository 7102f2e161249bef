"""Run a few lines of Python in a process of their own: for what changes the process it is in."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]


def run_script(
    code: str, *arguments: object, timeout: float = 30, stdout: int | IO[bytes] = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run Python text with the checkout on its path; return its status and its outputs."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout,
    )
