"""Put download caches where they outlive the container.  Pure.

A cache of models in the container's own layer is downloaded again by every new container, and
fills the disk that Docker lives on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from launcher.model.host import CACHE, Account, Host, Mount
from launcher.model.plan import EnvVar

# Each of these programs asks its variable first, then XDG_CACHE_HOME, then ~/.cache: "Environment
# variables" of huggingface_hub, pip's "Caching", uv's "Storage", torch.hub's `get_dir`.
CACHES = (
    ("HF_HOME", "huggingface", "models, data sets and login of Hugging Face"),
    ("PIP_CACHE_DIR", "pip", "pip's downloads"),
    ("UV_CACHE_DIR", "uv", "uv's downloads"),
    ("TORCH_HOME", "torch", "models of torch.hub and torchvision"),
)
NAMES = tuple(name for name, _, _ in CACHES)
_IN_MEMORY = ("tmpfs", "ramfs")


def plan_caches(
    host: Host, account: Account, workspace: str, environ: Mapping[str, str], writable: bool
) -> tuple[EnvVar, ...]:
    """Return the variables that move caches from the container's layer into the workspace.

    Only where that is a volume, and what the user set is kept.  A cache that lasts where it is,
    because its own folder or HOME is mounted, stays there.  No folder is made here: each program
    makes its own, as the user.

    Args:
        account: of the workspace user.
        writable: the workspace, by that user.
    """
    if not (host.image and writable and lasts(host.mounts, workspace)):
        return ()
    if environ.get("XDG_CACHE_HOME"):  # all four follow it
        return ()
    parent = f"{workspace}/{CACHE}"
    closed = {
        path for path, folder in host.cache_folders if not folder.lets_write(account, host.me)
    }
    return tuple(
        EnvVar(name, f"{parent}/{folder}", f"{what}, on the volume {workspace}")
        for name, folder, what in CACHES
        if not environ.get(name)
        and not closed & {parent, f"{parent}/{folder}"}
        and not lasts(host.mounts, f"{account.home}/{CACHE}/{folder}")
    )


def lasts(mounts: Iterable[Mount], path: str) -> bool:
    """Return whether what is written to `path` outlives the container: it is on a mounted disk."""
    nearest = mount_of(mounts, path)
    return nearest is not None and nearest.path != "/" and nearest.kind not in _IN_MEMORY


def mount_of(mounts: Iterable[Mount], path: str) -> Mount | None:
    """Return the file system that `path` is on; None where the mounts are hidden."""
    above = [mount for mount in mounts if f"{path}/".startswith(f"{mount.path.rstrip('/')}/")]
    # Of two mounts on one path the later hides the earlier.
    nearest = max(enumerate(above), key=lambda item: (len(item[1].path), item[0]), default=None)
    return nearest[1] if nearest else None
