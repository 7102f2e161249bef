"""Provide a program of npm's, of a pinned version, in `.cache`.

`make test` provides npm itself (tools/system_packages.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tools.turn import CACHE, turn


def provide(folder: str, pin: str) -> Path:
    """Return the `node_modules` that has `pin`, installed unless it is there.

    Raises RuntimeError where it cannot be.
    """
    with turn(folder):
        return _installed(CACHE / folder, pin)


def _installed(place: Path, pin: str) -> Path:
    stamp = place / "installed"
    if stamp.exists() and stamp.read_text() == pin:
        return place / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"{pin} needs npm: python3 -m tools.system_packages containers")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--prefix", str(place), pin],
        env={**os.environ, "npm_config_cache": str(place / "downloads")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"cannot install {pin}: {done.stderr.strip()}")
    shutil.rmtree(place / "downloads", ignore_errors=True)
    stamp.write_text(pin)
    return place / "node_modules"
