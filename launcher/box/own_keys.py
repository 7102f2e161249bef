"""The user's own ~/.ssh/authorized_keys, as sshd looks at it before it reads a key.

With StrictModes it, and each folder above it up to the home, must be the user's or root's, and
nobody else's to write (OpenSSH, misc.c, safe_path); a group of his alone may (Debian's and Ubuntu's
patch "user-group-modes").
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

_OF_OTHERS = 0o022


def keys_fault(home: str, uid: int) -> str | None:
    """As the user: return "PATH\\nWHY" where sshd refuses his file; None where it has none.

    In the image's own layer what is his is closed to others; a volume's modes stay as they are.
    """
    path = f"{home}/.ssh/authorized_keys"
    try:
        if not os.stat(path).st_size:
            return None
        path, home = os.path.realpath(path), os.path.realpath(home)
        layer = _image_layer()
        while True:
            if why := _fault(path, uid, layer):
                return f"{path}\n{why}"
            if path in (home, "/"):
                return None
            path = os.path.dirname(path)
    except FileNotFoundError:
        return None
    except OSError as err:
        return f"{path}\nit cannot be read by uid {uid}: {err.strerror}"


def _image_layer() -> int:
    return os.stat("/").st_dev


def _fault(path: str, uid: int, layer: int) -> str | None:
    info = os.stat(path)
    if info.st_uid not in (0, uid):
        return f"it belongs to uid {info.st_uid}"
    if not info.st_mode & _OF_OTHERS:
        return None
    if not info.st_mode & stat.S_IWOTH and _is_his_alone(info.st_gid, uid):
        return None
    if info.st_dev == layer and info.st_uid == uid == os.geteuid():
        os.chmod(path, stat.S_IMODE(info.st_mode) & ~_OF_OTHERS)
        return None
    return "others than its owner can write there"


def _is_his_alone(gid: int, uid: int) -> bool:
    """Return whether a group has one member, the user."""
    accounts = pwd.getpwall()
    try:
        named = set(grp.getgrgid(gid).gr_mem)
    except KeyError:
        return False
    members = {one.pw_uid for one in accounts if one.pw_gid == gid or one.pw_name in named}
    return members == {uid}
