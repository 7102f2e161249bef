"""What is in an image, file by file: for the question whether two builds made the same.

Times are left out: an engine stores when a build wrote a file, and nothing reads that.
"""

from __future__ import annotations

import json

from testing.container.engine import Docker

HASH_TIMEOUT = 900.0  # seconds; six gigabytes are read
# An engine puts these into every container.
_NOT_OF_THE_IMAGE = ("/proc", "/sys", "/dev", "/run/launcher", "/var/lib/launcher", "/.dockerenv",
                     "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab")  # fmt: skip
_LIST = r"""
import hashlib, json, os, stat, sys
left_out = set(json.loads(sys.argv[1]))
for folder, folders, files in os.walk("/"):
    folders[:] = sorted(n for n in folders if os.path.join(folder, n) not in left_out)
    for name in sorted([*folders, *files]):
        path = os.path.join(folder, name)
        if path in left_out:
            continue
        info = os.lstat(path)
        what = ""
        if stat.S_ISLNK(info.st_mode):
            what = os.readlink(path)
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as stream:
                what = hashlib.file_digest(stream, "sha256").hexdigest()
        print(json.dumps([path, f"{info.st_mode:o} {info.st_uid}:{info.st_gid} {what}"]))
"""


def read_contents(docker: Docker, image: str, root: str = "/") -> dict[str, str]:
    """Return mode, owner and digest of every file of an image, by its path, below `root`."""
    listed = docker(
        "run", "--rm", "--user", "0", "--network", "none", "--entrypoint", "/usr/bin/python3",
        image, "-I", "-c", _LIST, json.dumps(_NOT_OF_THE_IMAGE), timeout=HASH_TIMEOUT,
    ).stdout  # fmt: skip
    pairs = (json.loads(line) for line in listed.splitlines())
    return {path: what for path, what in pairs if path.startswith(root)}


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Return the paths that only one of them has, or that differ."""
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
