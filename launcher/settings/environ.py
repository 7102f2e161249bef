"""This process's environment: the only reader and writer of `os.environ`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from launcher.model import run_files
from launcher.settings import folders


def own() -> dict[str, str]:
    """Return this process's environment."""
    return dict(os.environ)


def replace(environ: Mapping[str, str]) -> None:
    """Make `environ` this process's whole environment."""
    os.environ.clear()
    os.environ.update(environ)


def run_dir() -> str:
    """Return where this run's files are, without judging any other setting.

    root's, where root runs the box: a user is then told to ask with sudo.  Raises BadSetting for
    root where others can change it: root would do what their files say.
    """
    named = os.environ.get("LAUNCHER_RUN_DIR", "").strip()
    of_root = os.path.exists(f"{folders.RUN}/{run_files.PLAN}")
    path = named or (folders.RUN if of_root else folders.run_dir())
    folders.check_run_dir(path)
    return path


def wants_color(environ: Mapping[str, str], terminal: bool) -> bool:
    """Return whether to paint: NO_COLOR and FORCE_COLOR decide (no-color.org, force-color.org).

    Args:
        terminal: what is written to is one.
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return terminal and environ.get("TERM") != "dumb"
