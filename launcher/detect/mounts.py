"""Which file systems are mounted here, from /proc/self/mountinfo.  Reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from launcher.model.host import Mount

# proc_pid_mountinfo(5): ID, parent, device, root, mount point, options, optional fields, "-", type.
_LINE = (
    r"(?m)^\d+ \d+ [^ \n]+ [^ \n]+ (?P<path>/[^ \n]*) (?P<options>[^ \n]+).*? - (?P<kind>[^ \n]+) "
)
# Space, tab, line break and backslash are written as three octal digits there.
_OCTAL = r"\\([0-7]{3})"
# Nobody's data: a GPU container has dozens of these, one for each file of the driver.
_OF_THE_SYSTEM = r"/(proc|sys|dev|run|etc|usr|lib|lib64|bin|sbin)(/|$)"


def read_mounts(root: Path = Path("/")) -> tuple[Mount, ...]:
    """Return what is mounted, in the order of mounting, but for the system's own folders."""
    try:
        text = (root / "proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ()
    found = (
        Mount(
            re.sub(_OCTAL, lambda octal: chr(int(octal[1], 8)), line["path"]),
            line["kind"],
            "ro" not in line["options"].split(","),
            "noexec" not in line["options"].split(","),
        )
        for line in re.finditer(_LINE, text)
    )
    return tuple(mount for mount in found if not re.match(_OF_THE_SYSTEM, mount.path))


# Not where anybody's work is: the container's own, and what lives in memory.  /opt/app-root/src is
# where the images of OpenShift keep it.
_NO_VOLUME = r"/(tmp|var|opt(?!/app-root/src)|boot|root/\.[^/]+)(/|$)"
_NOT_ON_A_DISK = ("overlay", "tmpfs", "ramfs", "aufs", "squashfs", "proc", "sysfs")
# A server that does not answer holds whoever asks; there, a mount is taken for a folder.
_OVER_THE_NETWORK = r"nfs|cifs|smb|fuse|ceph|lustre|gpfs|9p|beegfs"


def is_on_a_disk(path: str, mounts: Iterable[Mount]) -> bool:
    """Return whether somebody mounted a disk to be written to on this folder, or above it."""
    above = [one for one in mounts if one.path != "/" and f"{path}/".startswith(f"{one.path}/")]
    nearest = max(above, key=lambda mount: len(mount.path), default=None)
    return nearest is not None and nearest.writable and nearest.kind not in _NOT_ON_A_DISK


def volumes(mounts: Iterable[Mount]) -> tuple[str, ...]:
    """Return the folders that somebody mounted to be written to, those below another left out."""
    found: list[str] = []
    for mount in sorted(mounts):
        path = mount.path
        if (
            path != "/"
            and mount.writable
            and mount.kind not in _NOT_ON_A_DISK
            and not re.match(_NO_VOLUME, path)
            and not any(path.startswith(f"{one}/") for one in found)
            and (re.match(_OVER_THE_NETWORK, mount.kind) or os.path.isdir(path))
        ):
            found.append(path)
    return tuple(found)
