"""Boxes of the image, for the tests of who the user's programs run as."""

from __future__ import annotations

from launcher.model.host import Account, Folder, Host
from testing import machines
from testing.machines import ROOT, answering, gpu

DEV = Account("dev", 1000, 1000, "/home/dev", "/bin/bash", (1000,))
BOB = Account("bob", 1500, 1500, "/home/bob", "/bin/zsh", (1500, 1000))
WWW = Account("www-data", 33, 33, "/var/www", "/usr/sbin/nologin", (33, 1000))
NAMELESS = Account("1234", 1234, 0, "/tmp", "/bin/sh", (0,))
GROUPS = (("root", 0), ("www-data", 33), ("dev", 1000), ("bob", 1500))
LIBRARY = "/usr/lib/x86_64-linux-gnu/libnss_wrapper.so"

OWN = Folder(1000, 1000, 0o755, writable=True)
SOMEBODYS = Folder(1234, 1234, 0o755, writable=True)
ROOTS = Folder(0, 0, 0o755, writable=True)
SHARED = Folder(0, 0, 0o777, writable=True)
READ_ONLY = Folder(0, 0, 0o755, writable=False)

BASE = machines.machine(answering(gpu(0))).host._replace(
    me=ROOT,
    account=DEV,
    accounts=(ROOT, WWW, DEV, BOB),
    groups=GROUPS,
    workspace=OWN,
    names_writable=True,
    nss_wrapper=LIBRARY,
    python_gid=1000,
)


def host(folder: Folder | None = OWN, **changes: object) -> Host:
    """Return the image's box with this workspace."""
    writable = folder in (OWN, SHARED)
    found = BASE._replace(workspace=folder, workspace_missing=folder is None)
    return found._replace(**{"workspace_writable": writable, **changes})  # type: ignore[arg-type]
