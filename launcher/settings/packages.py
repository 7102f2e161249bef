"""LAUNCHER_PACKAGES: where pip and uv install.  Pure."""

from __future__ import annotations

from launcher.settings.table import Settings

FOLDER = ".packages"  # in the workspace


def folder(settings: Settings, python_version: str) -> str:
    """Return the environment on the workspace, one for each Python: "…/.packages/python3.11".

    "" where packages go into the image's own, or where nothing of the user's is to be loaded.
    """
    if settings.packages != "workspace" or settings.safe_mode or not python_version:
        return ""
    return f"{settings.workspace}/{FOLDER}/python{python_version}"
