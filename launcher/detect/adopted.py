"""The volume of a platform that mounts it where its own images keep their work.  Reads only.

JupyterHub on Kubernetes and Kubeflow mount a user's volume on /home/jovyan, whatever the image, and
Open Data Hub on /opt/app-root/src.
Where notebooks are in another place, all of them are gone at the next start.
"""

from __future__ import annotations

import os
from pathlib import Path

from launcher.detect.mounts import read_mounts, volumes
from launcher.settings.table import Settings

_USUAL = ("/home/jovyan", "/home/jovyan/work", "/opt/app-root/src")


def adopt(settings: Settings, root: Path = Path("/")) -> Settings:
    """Return the settings with home and workspace on that volume, where nothing else was asked for.

    Of several the usual one; else none, where more than one could be meant.
    """
    env = settings.environ
    by_platform = "JUPYTERHUB_API_TOKEN" in env or env.get("NB_PREFIX", "").strip()
    if not by_platform or "workspace" in settings.given:
        return settings
    mounted = read_mounts(root)
    if any(mount.path == settings.workspace for mount in mounted):
        return settings
    if not (root / "etc/launcher/supervisord.conf").exists():
        return settings
    there = volumes(mounted)
    usual = [path for path in _USUAL if path in there]
    found = usual[:1] or [path for path in there if path != "/home/dev"]
    if len(found) != 1:
        return settings
    home = settings.home if "/home/dev" in there else found[0]
    return settings._replace(workspace=os.path.normpath(found[0]), home=home)
