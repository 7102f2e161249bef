"""Provide JupyterHub's proxy, configurable-http-proxy, for the test that runs a real hub.

It is a Node.js program; `make test` provides npm (tools/system_packages.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# The last of its line: 5 needs a newer Node.js than the distributions have.
PIN = "configurable-http-proxy@4.6.3"
FOLDER = Path(__file__).parents[1] / ".cache" / "hub-proxy"


def provide() -> Path:
    """Return the program, installed unless it is there with the same pin.

    Raises RuntimeError where it cannot be.
    """
    program = FOLDER / "node_modules" / ".bin" / "configurable-http-proxy"
    stamp = FOLDER / "installed"
    if program.exists() and stamp.exists() and stamp.read_text() == PIN:
        return program
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError("JupyterHub's proxy needs npm: run `make test`")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--prefix", str(FOLDER), PIN],
        env={**os.environ, "npm_config_cache": str(FOLDER / "downloads")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"cannot install {PIN}: {done.stderr.strip()}")
    shutil.rmtree(FOLDER / "downloads", ignore_errors=True)
    stamp.write_text(PIN)
    return program
