"""Provide Prometheus and promtool, Debian's, for the test that has a box scraped.

Unpacked, not installed: the package would start a server and bring a web console's scripts along.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tools.turn import CACHE, turn

FOLDER = CACHE / "prometheus"


def provide() -> Path:
    """Return the folder that has both programs.  Raises RuntimeError where they cannot be had."""
    programs = FOLDER / "usr" / "bin"
    with turn("prometheus"):
        if not (programs / "promtool").exists():
            _unpack()
    return programs


def _unpack() -> None:
    if not shutil.which("apt-get"):
        raise RuntimeError("Prometheus is Debian's here: it needs apt-get")
    shutil.rmtree(FOLDER, ignore_errors=True)
    partial = FOLDER.with_name("prometheus.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if _run("apt-get", "-qq", "download", "prometheus", at=partial):
        _run("apt-get", "-qq", "update", at=partial)  # no lists yet, or those of another day
        if said := _run("apt-get", "-qq", "download", "prometheus", at=partial):
            raise RuntimeError(f"cannot download Debian's prometheus: {said}")
    (package,) = partial.glob("*.deb")
    if said := _run("dpkg-deb", "--extract", package.name, ".", at=partial):
        raise RuntimeError(f"cannot unpack {package.name}: {said}")
    package.unlink()
    partial.rename(FOLDER)


def _run(*command: str, at: Path) -> str:
    """Return what a command said where it failed, else ""."""
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or f"exit status {done.returncode}") if done.returncode else ""
