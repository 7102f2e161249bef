"""The volume that work is kept on, where nobody names the workspace.  Reads only.

JupyterHub on Kubernetes and Kubeflow mount a user's volume on /home/jovyan, whatever the image,
Open Data Hub on /opt/app-root/src, and templates of Coder on /home/coder.
Where notebooks are in another place, all of them are gone at the next start.

Whoever starts the container in a folder of his (`-v $PWD:/app -w /app`) works there, too: what runs
has to be who owns it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from launcher.detect.mounts import is_on_a_disk, read_mounts, volumes
from launcher.model.host import Mount
from launcher.settings import environ, folders
from launcher.settings.table import Settings

_USUAL = ("/home/jovyan", "/home/jovyan/work", "/opt/app-root/src", "/home/coder")


def adopt(settings: Settings, root: Path = Path("/")) -> Settings:
    """Return the settings with home and workspace on that volume, where nothing else was asked for.

    Of a platform's the usual one; else none, where more than one could be meant.
    """
    env, here = settings.environ, environ.started_in()
    hub, coder = "JUPYTERHUB_API_TOKEN" in env, "CODER_WORKSPACE_NAME" in env
    by_platform = hub or coder or env.get("NB_PREFIX", "").strip()
    if not (by_platform or here) or "workspace" in settings.given:
        return settings
    mounted = read_mounts(root)
    if any(mount.path == settings.workspace for mount in mounted):
        return settings
    if not (root / folders.IN_OUR_IMAGE.lstrip("/")).exists():
        return settings
    adopted = _of_a_platform(settings, mounted) if by_platform else settings
    if adopted is settings and here and is_on_a_disk(here, mounted):
        return settings._replace(workspace=here)
    return adopted


def _of_a_platform(settings: Settings, mounted: Sequence[Mount]) -> Settings:
    there = volumes(mounted)
    usual = [path for path in _USUAL if path in there]
    found = usual[:1] or [path for path in there if path != "/home/dev"]
    if len(found) != 1:
        return settings
    home = settings.home if "/home/dev" in there else found[0]
    return settings._replace(workspace=os.path.normpath(found[0]), home=home)
