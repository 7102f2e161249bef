"""Run a few lines of Python in a process of their own: for what changes the process it is in."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]

# glibc keeps these for itself, and posix_spawn, which make uses, leaves them ignored (spawni.c):
# nobody can restore them, and nobody can send them.
_OF_THE_C_LIBRARY = 1 << 31 | 1 << 32  # signals 32 and 33


def signal_masks(status: str) -> list[int]:
    """Return SigBlk and SigIgn of /proc/PID/status, without the C library's own signals."""
    masks = re.findall(r"Sig(?:Blk|Ign):\s*(\w+)", status)
    return [int(mask, 16) & ~_OF_THE_C_LIBRARY for mask in masks]


def run_script(
    code: str,
    *arguments: object,
    timeout: float = 30,
    stdin: int | IO[bytes] = subprocess.PIPE,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run Python text with the checkout on its path; return its status and its outputs.

    Its standard input is an empty pipe, not /dev/null, which some of these scripts could change.
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout,
    )
