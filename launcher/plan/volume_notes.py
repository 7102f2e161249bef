"""What is said of the folders that people mount: the workspace, and the state directory.  Pure.

A fix is one that can be done there, and by who it is: a folder is root's to give away where root
can, a pod's is its fsGroup's, and nobody who rents a machine reaches its host.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.how_to_run import is_rented, mount_on, set_to_own, tell
from launcher.model.host import Account, Host
from launcher.model.plan import Finding, State
from launcher.plan.caches import lasts, mount_of
from launcher.settings.table import Settings

# Nomad's own for each task ("Runtime environment settings"), not what the person mounted.
_OF_A_SCHEDULER = ("NOMAD_ALLOC_DIR", "NOMAD_TASK_DIR", "NOMAD_SECRETS_DIR")


def workspace_notes(
    host: Host, settings: Settings, user: Account, writable: bool, *, services: bool
) -> Iterator[Finding]:
    """Say where work is saved, and whether it is kept.

    Args:
        writable: the workspace, by that user.
    """
    path = settings.workspace
    # Root gives the user what is mounted anew, or becomes who owns it; another uid can do neither.
    whose = "" if host.me.uid == 0 else f", a folder that uid {user.uid} may write"
    mount = mount_on(host, path)
    if host.workspace_missing:
        yield Finding(
            "workspace.missing",
            f"{path} does not exist",
            "Jupyter opens in the home directory",
            f"mount one{whose}: {mount}",
        )
    elif not writable and _is_read_only(host, path):
        yield Finding(
            "workspace.readonly",
            f"{path} is mounted read-only",
            "notebooks cannot be saved there",
            f"mount it to be written, without :ro: {tell(host, 'mount', f'DIRECTORY:{path}')}",
        )
    elif not writable:
        yield Finding(
            "workspace.readonly",
            f"{user.name} (uid {user.uid}) cannot write {path}",
            "notebooks cannot be saved there",
            f"mount one{whose}: {mount}"
            if host.image and not _is_mounted(host, path) and not is_rented(host)
            else give_to(host, user, path),
        )
    elif services and host.image and not lasts(host.mounts, path):
        theirs = {settings.environ.get(name) for name in _OF_A_SCHEDULER}
        volumes = (one for one in host.volumes if one not in theirs)
        other = [one for one in volumes if not _is_ours(one, settings, user)]
        if other:
            yield Finding(
                "workspace.other_volume",
                f"a volume is mounted on {other[0]}, which nothing here opens",
                f"notebooks are saved in {path}, which ends with the container",
                f"mount it there: {mount}; or {tell(host, 'setting', f'WORKSPACE={other[0]}')}",
            )
        else:
            yield Finding(
                "workspace.not_kept",
                f"{path} is no volume",
                "what is saved there ends with the container",
                f"to keep it{whose}: {mount}",
            )


def workspace_of_root(host: Host, path: str, user: Account) -> Finding:
    """Say that everything runs as root, since the workspace is root's."""
    if is_rented(host):  # their volumes are root's, and nobody who is here mounted them
        so = "so everything runs as root, as in the platform's own images"
        fix = f"none needed; to be {user.name} instead: {give_to(host, user, path)}, then "
        fix += tell(host, "anew")
    else:
        so = "so everything runs as root, and its files are root's on the host"
        fix = (
            "is the path that is mounted mistyped? An engine makes what is not there; else "
            f"{set_to_own(host, 'NB_UID', 'id -u', 'YOUR UID')}, or {give_to(host, user, path)}"
        )
    what = f"{path} belongs to root, and {user.name} cannot write there"
    return Finding("identity.root", what, so, fix)


def give_to(host: Host, user: Account, path: str) -> str:
    """Return how what is mounted on `path` is made the user's to write."""
    if host.rootless and host.platform == "docker":  # a uid of the host's is another one in here
        return f"{_as_root(host)}: chown -R {user.uid} {path}"
    return tell(host, "own", user.uid, user.gid, path)


def _as_root(host: Host) -> str:
    return "in it, as root (docker exec -u root …)" if host.image else "as root"


def state_notes(host: Host, settings: Settings, state: State | None) -> Iterator[Finding]:
    """Say that others can change what the box is known by."""
    if not (state and state.weakness):
        return
    path = settings.state_dir
    on = mount_of(host.mounts, path)
    can_give = host.me.uid == 0 and not host.lacks("CHOWN") and (on is None or on.writable)
    if can_give and state.weakness.startswith(f"{path} "):
        fix = f"{_as_root(host)}: chown root {path}; chmod 700 {path}"
    elif is_rented(host):  # one volume, and everything else ends with the machine
        given = tell(host, "setting", "JUPYTER_PASSWORD and PUBLIC_KEY")
        fix = (
            f"leave LAUNCHER_STATE_DIR out; {given} are kept anyway, and the host key alone is "
            "new at every start"
        )
    else:
        volume = tell(host, "mount", f"launcher-state:{path}")
        fix = f"a volume of its own, in no folder of others': {volume}"
    yield Finding(
        "state.of_others",
        f"the state directory is not root's alone: {state.weakness}",
        "who can write there chooses the box's token, password and host key, and who logs in",
        fix,
    )


def _is_mounted(host: Host, path: str) -> bool:
    return any(mount.path == path for mount in host.mounts)


def _is_read_only(host: Host, path: str) -> bool:
    """Return whether a volume refuses everybody, whoever owns what is in it."""
    mount = mount_of(host.mounts, path)
    return mount is not None and mount.path != "/" and not mount.writable


def _is_ours(path: str, settings: Settings, user: Account) -> bool:
    """Return whether something of ours opens a volume."""
    places = (user.home, settings.state_dir, settings.run_dir)
    return any(f"{path}/".startswith(f"{place}/") for place in places)
