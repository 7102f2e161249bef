"""Where the launcher keeps its files when nobody says: as root, and as anybody else.  Reads only.

A container that was started with `--user` may write neither /run nor /var/lib.
"""

from __future__ import annotations

import os
import stat

from launcher.model import run_files
from launcher.model.errors import BadSetting
from launcher.paths import walk

RUN = "/run/launcher"
STATE = "/var/lib/launcher"
IN_OUR_IMAGE = "/etc/launcher/supervisord.conf"  # is there in it, and on no plain machine
# Below the root folder; `hooks` says what each is.
HOOKS = (
    "etc/launcher/hooks.d",
    "usr/local/bin/start-notebook.d",
    "usr/local/bin/before-notebook.d",
    "pre_start.sh",
)


SSHD_CONFIG = "/etc/launcher/sshd_config.d"  # more of sshd's configuration, an image's or mounted


def run_dir() -> str:
    """Return this run's directory.

    Raises BadSetting where somebody else has made the one in /tmp, which everybody may write.
    """
    uid = os.geteuid()
    if uid == 0 or _is_ours(RUN) or _can_be_made(RUN):
        return RUN
    path = f"/tmp/launcher-{uid}"
    if os.path.lexists(path) and not _is_ours(path):
        raise BadSetting(
            f"{path} belongs to somebody else, or is no folder: "
            "remove it, or set LAUNCHER_RUN_DIR to a folder of your own"
        )
    return path


def running_dir() -> str:
    """Return the directory of the box that runs in this container, of several in one /tmp."""
    import glob  # PID 1 needs none of this

    usual = run_dir()
    beside = sorted(glob.glob(f"{glob.escape(usual)}-[0-9]*")) if usual != RUN else ()
    return next((path for path in (usual, *beside) if _runs_here(path)), usual)


def uid_of_another_box() -> int | None:
    """Return who runs a box in this container, as `launcher start --background` does; for root."""
    import glob  # where something is wrong

    for path in glob.glob("/tmp/launcher-*"):
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # it may be a pipe
        try:
            uid = os.lstat(path).st_uid
            lock = os.open(f"{path}/{run_files.LOCK}", flags)
        except OSError:
            continue
        try:
            if uid != os.geteuid() and os.read(lock, 99).decode() == container() != "":
                return uid
        except (OSError, ValueError):
            continue
        finally:
            os.close(lock)
    return None


def container() -> str:
    """Return what tells this container from others of this machine: its namespace of mounts."""
    try:
        return os.readlink("/proc/self/ns/mnt")
    except OSError:
        return ""


def is_of_this_container(path: str) -> bool:
    """Return whether the box of a run directory runs in this container of our image.

    On a plain machine everything is in one namespace, and a second box is meant.
    """
    return os.path.exists(IN_OUR_IMAGE) and _runs_here(path)


def _runs_here(path: str) -> bool:
    try:
        with open(f"{path}/{run_files.LOCK}", encoding="ascii") as stream:
            return _is_ours(path) and stream.read(99) == container() != ""
    except (OSError, ValueError):
        return False


def is_mine_or_nobodys(path: str) -> bool:
    """Return whether a directory in /tmp is this user's, or nobody has made it."""
    return not os.path.lexists(path) or _is_ours(path)


def check_run_dir(path: str) -> None:
    """Raise BadSetting for root where others can change this run's directory, or put another there.

    What lies in it says what root starts.
    """
    if os.geteuid() != 0 or not os.path.lexists(path):
        return
    try:
        found: object = walk.weakness(path)
    except OSError as err:
        found = err.strerror
    if found:
        raise BadSetting(
            f"cannot use {path}: {found}, and whoever changes what is in there would be root here; "
            "set LAUNCHER_RUN_DIR to a folder of root's, such as one in /run; "
            "a box of another uid is that one's to enter (docker exec --user UID …)"
        )


def may_have_hooks(root: str = "/") -> bool:
    """Return whether it is worth a look: `hooks` takes 3 ms to import, and most boxes have none."""
    for path in HOOKS:
        try:
            if os.listdir(os.path.join(root, path)):
                return True
        except FileNotFoundError:
            continue
        except OSError:  # a file, or a folder that may not be read
            return True
    return False


def state_dir(run: str) -> str:
    """Return the directory kept over restarts; without one, a place that this run can use."""
    if os.geteuid() == 0 or _is_ours(STATE) or _can_be_made(STATE):
        return STATE
    return f"{run}/{run_files.STATE}"


def _is_ours(path: str) -> bool:
    """Return whether `path` is a folder of this user's, which nobody else may write to."""
    try:
        info = os.lstat(path)  # not stat: another user's link could lead to a folder of ours
    except OSError:
        return False
    private = not info.st_mode & 0o022
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and private


def _can_be_made(path: str) -> bool:
    """Return whether it is not there, and this user alone could make it."""
    parent = os.path.dirname(path)
    if os.path.lexists(path) or not os.access(parent, os.W_OK | os.X_OK):
        return False
    return not os.stat(parent).st_mode & 0o002
