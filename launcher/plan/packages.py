"""Where the user's packages are: in the image's environment, or in one on the workspace.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.model.host import Host
from launcher.model.plan import EnvVar, Finding, Packages
from launcher.plan.caches import lasts
from launcher.settings import packages
from launcher.settings.table import Settings

_WHY = "the packages on the workspace, before the image's"


def plan_packages(
    host: Host, settings: Settings, writable: bool, fault: str | None = None
) -> Packages:
    """Decide where pip and uv install.

    Args:
        writable: the workspace, by the user.
        fault: why the environment could not be made.
    """
    folder = packages.folder(settings, host.python_version)
    kept = host.image and writable and lasts(host.mounts, settings.workspace)
    image = settings.python.rpartition("/bin/")[0]
    ends = kept and "packages" not in settings.given and not lasts(host.mounts, image)
    return Packages(folder if writable and not fault else "", ends)


def package_variables(found: Packages, settings: Settings) -> tuple[EnvVar, ...]:
    """Return what makes every door find them; PATH also where there are none."""
    image = settings.python.rpartition("/")[0]
    own = [f"{found.folder}/bin"] if found.folder else []
    path = settings.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    entries = path.split(":")
    at = entries.index(image) if image in entries else 0
    ours = own if image in entries else [*own, image]
    variables = [EnvVar("PATH", ":".join([*entries[:at], *ours, *entries[at:]]), _why(found))]
    if not found.folder:
        return tuple(variables) if ours else ()
    prefix = image.removesuffix("/bin")
    for name, below in (("JUPYTER_PATH", "share/jupyter"), ("JUPYTER_CONFIG_PATH", "etc/jupyter")):
        places = (settings.environ.get(name), f"{found.folder}/{below}", f"{prefix}/{below}")
        variables.append(EnvVar(name, ":".join(filter(None, places)), _WHY))
    if not settings.environ.get("JUPYTERLAB_DIR"):
        lab = f"{prefix}/share/jupyter/lab"
        variables.append(EnvVar("JUPYTERLAB_DIR", lab, "JupyterLab's own files are the image's"))
    return tuple(variables)


def _why(found: Packages) -> str:
    return _WHY if found.folder else "the user environment's programs first"


def package_notes(settings: Settings, found: Packages, fault: str | None) -> Iterator[Finding]:
    """Say where packages that were to be kept are not."""
    if settings.packages != "workspace" or settings.safe_mode or found.folder:
        return
    yield Finding(
        "packages.not_kept",
        f"LAUNCHER_PACKAGES=workspace: {fault or 'the workspace cannot be written'}",
        "pip and uv install into the image's environment, which ends with the container",
        "a workspace on a disk that has links and lets programs run, and is the user's",
    )
