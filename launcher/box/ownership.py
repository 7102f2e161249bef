"""Give folders to the workspace user where people ask for it: CHOWN_HOME, CHOWN_EXTRA.

By descriptors (`paths`): in a folder that a user owns, a link could lead root anywhere.  What
cannot be given away, as on a network disk, is said, and is no reason to end.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable

from launcher.model.errors import reason
from launcher.model.host import Account
from launcher.model.plan import Identity
from launcher.model.printable import printable
from launcher.paths.folder import Folder
from launcher.settings import chown

Say = Callable[[str], None]
_FIRST_WORD, _NEXT_WORD = 10.0, 60.0  # seconds until it is said that this takes long
_EXTRA = "CHOWN_EXTRA"


def give_extra(identity: Identity, say: Say) -> None:
    """Give away the folders of CHOWN_EXTRA, where we may give anything."""
    if os.geteuid() != 0:
        return
    for path in identity.chown_extra:
        try:
            with Folder(path) as folder:
                where = os.readlink(folder.at)
                if chown.is_of_the_system(where):
                    say(f"{_EXTRA}: {printable(path)} is {printable(where)}: it stays as it is")
                else:
                    give(folder, path, identity.account, identity.chown_extra_all, _EXTRA, say)
        except OSError as err:
            say(cannot(_EXTRA, printable(path), identity.account, err))


def give(
    folder: Folder, path: str, account: Account, everything: bool, asked: str, say: Say
) -> None:
    """Give away a folder, and what is in it.

    Args:
        path: of the folder, for people.
        asked: the setting that wants it.
        say: is told what could not be given, and every minute that it takes long.
    """
    try:
        os.fchown(folder.fd, account.uid, account.gid)
    except OSError as err:
        say(cannot(asked, printable(path), account, err))
        return
    if not everything:
        return
    failed: list[OSError] = []
    number = 0
    word = time.monotonic() + _FIRST_WORD
    for number, fault in enumerate(folder.give_everything(account.uid, account.gid), start=1):
        if fault:
            failed.append(fault)
        if (now := time.monotonic()) > word:
            word = now + _NEXT_WORD
            say(f"{asked}: {number} of {printable(path)} are given away; the start waits for it")
    if failed:
        few = f"{len(failed)} of {number} in {printable(path)}"
        say(cannot(asked, few, account, failed[0]))


def cannot(asked: str, what: str, account: Account, err: OSError) -> str:
    """Return what to say of a gift that failed."""
    forbidden = err.errno in (errno.EPERM, errno.EACCES)
    more = "; of a network disk with root_squash only its server can" if forbidden else ""
    to = f"{account.name} (uid {account.uid})"
    return f"{asked}: cannot give {what} to {to}: {reason(err)}{more}"
