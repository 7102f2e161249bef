"""Which file systems are mounted here, from /proc/self/mountinfo.  Reads only."""

from __future__ import annotations

import re
from pathlib import Path

from launcher.model.host import Mount

# proc_pid_mountinfo(5): ID, parent, device, root, mount point, options, optional fields, "-", type.
_LINE = re.compile(
    r"^\d+ \d+ [^ \n]+ [^ \n]+ (?P<path>/[^ \n]*) .*? - (?P<kind>[^ \n]+) ", re.MULTILINE
)
# Space, tab, line break and backslash are written as three octal digits there.
_OCTAL = re.compile(r"\\([0-7]{3})")
# Nobody's data: a GPU container has dozens of these, one for each file of the driver.
_OF_THE_SYSTEM = re.compile(r"/(proc|sys|dev|run|etc|usr|lib|lib64|bin|sbin)(/|$)")


def read_mounts(root: Path = Path("/")) -> tuple[Mount, ...]:
    """Return what is mounted, in the order of mounting, but for the system's own folders."""
    try:
        text = (root / "proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return ()
    found = (
        Mount(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), line["path"]), line["kind"])
        for line in _LINE.finditer(text)
    )
    return tuple(mount for mount in found if not _OF_THE_SYSTEM.match(mount.path))
