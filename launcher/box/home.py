"""Make the user's account and home real, before anything runs as that user.

Root makes the directory, where its parent is root's, and gives it away.  What goes into it is
written by the user's own uid, in a child: in a directory that a user owns, a link could lead
root's writing anywhere.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable

from launcher.box import own_keys, ownership
from launcher.box.files import write
from launcher.model import run_files
from launcher.model.host import FIRST_OF_PEOPLE, Account
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Identity, RenderedFile
from launcher.paths.folder import Folder
from launcher.process.fork import fork_to_answer, write_all
from launcher.render import passwd

SKELETON = "/etc/skel"
_FILES: tuple[tuple[str, int, Callable[[str, Identity], str]], ...] = (
    ("group", 0o644, passwd.group_text),
    ("passwd", 0o644, passwd.passwd_text),
    ("shadow", 0o640, passwd.shadow_text),
)


def write_names(identity: Identity, run_dir: str) -> None:
    """Make the account known.

    Raises BadSetting where its files cannot be written.
    """
    if identity.names == "written":
        for name, mode, change in _FILES:
            path = f"/etc/{name}"
            with open(path, encoding="utf-8", errors="surrogateescape") as stream:
                old = stream.read()
            new = change(old, identity)
            if new != old:
                write([RenderedFile(path, new, mode, 0, os.stat(path).st_gid)])
    elif identity.names == "wrapped":
        folder = f"{run_dir}/{run_files.NAMES}"
        files = [RenderedFile(path, None, 0o755, -1, -1) for path in (run_dir, folder)]
        for name, _, change in _FILES[:2]:
            with open(f"/etc/{name}", encoding="utf-8", errors="surrogateescape") as stream:
                text = change(stream.read(), identity)
            files.append(RenderedFile(f"{folder}/{name}", text, 0o644, -1, -1))
        write(files)


class Found(NamedTuple):
    """What the user himself finds, whatever root may look at on a network disk."""

    home_fault: str | None  # why his home is of no use
    workspace_writable: bool | None  # None = nobody looked
    keys_fault: str | None = None  # why sshd refuses the keys in his own file


def make_home(
    identity: Identity, workspace: str = "", say: ownership.Say = lambda line: None
) -> Found:
    """Make the user's home, filled from the skeleton while it is empty.

    Args:
        say: is told what CHOWN_HOME asked for and could not be done.
    """
    account = identity.account
    if account.uid == os.geteuid():
        return _look(identity, workspace)
    try:
        _give_home(identity, say)
    except OSError as err:
        if identity.chown_home:
            say(ownership.cannot("CHOWN_HOME", account.home, account, err))
    pid, reader = fork_to_answer(lambda writer: _as_the_user(identity, workspace, writer))
    with open(reader, encoding="utf-8", errors="replace") as answer:
        writable, fault, keys = (*answer.read().split("\0"), "", "")[:3]
    os.waitpid(pid, 0)
    return Found(fault or None, writable == "1", keys or None)


def _look(identity: Identity, workspace: str) -> Found:
    account = identity.account
    return Found(
        _fill(identity),
        os.access(workspace, os.W_OK | os.X_OK),
        own_keys.keys_fault(account.home, account.uid),
    )


def give_workspace(identity: Identity, path: str) -> None:
    """As root: give the user a workspace that is nobody's yet (`plan.identity.takes_workspace`)."""
    account = identity.account
    with Folder(path) as folder:
        owner = folder.stat().st_uid
        os.fchown(folder.fd, account.uid, account.gid)
        if owner:
            folder.give_content(account.uid, account.gid, of=owner)


def _as_the_user(identity: Identity, workspace: str, writer: int) -> int:
    account = identity.account
    try:
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)
        found = _look(identity, workspace)
    except OSError as err:
        found = Found(str(err), False)
    said = (f"{bool(found.workspace_writable):d}", found.home_fault or "", found.keys_fault or "")
    write_all(writer, "\0".join(said).encode(errors="replace"))
    return 0


def _give_home(identity: Identity, say: ownership.Say) -> None:
    """As root: make the home and give it to the user, all by descriptors (`paths`)."""
    account, former = identity.account, identity.former
    above, name = os.path.split(account.home)
    with Folder(above, make=0o755) as parent:
        if name not in os.listdir(parent.fd):
            parent.make_folder(name, 0o755, account.uid, account.gid)
            return
        home = parent.open(name)
    with home:
        owner = home.stat().st_uid
        # A new uid for the image's user: his files in the container's own layer come along.
        moved = (
            former is not None and owner == former.uid != 0 and not os.path.ismount(account.home)
        )
        unused = owner == 0 and not _content(home.at)
        if identity.chown_home:
            everything = identity.chown_home == "all"
            ownership.give(home, account.home, account, everything, "CHOWN_HOME", say)
        elif moved or unused:
            os.fchown(home.fd, account.uid, account.gid)
        if moved and identity.chown_home != "all":
            home.give_content(account.uid, account.gid, of=owner)


def _fill(identity: Identity) -> str | None:
    """As the user: copy the skeleton into an empty home; return why it cannot be written."""
    home, former = identity.account.home, identity.former
    renamed = former is not None and former.home != home and _is_of_people(former)
    try:
        os.makedirs(home, 0o700, exist_ok=True)
        if not _content(home):
            _copy(former.home if former and renamed else SKELETON, home)
    except OSError as err:
        return err.strerror or str(err)
    if not os.access(home, os.W_OK | os.X_OK):
        read_only = os.statvfs(home).f_flag & os.ST_RDONLY
        return "it is read-only" if read_only else f"it belongs to uid {os.stat(home).st_uid}"
    return None


def _is_of_people(account: Account) -> bool:
    """Return whether somebody works there: the home of a daemon may be /bin, or /dev."""
    return account.uid >= FIRST_OF_PEOPLE and os.path.isdir(account.home)


def _copy(source: str, target: str) -> None:
    import shutil  # where there is something to copy

    os.umask(0o022)
    with contextlib.suppress(shutil.Error):  # what cannot be read is left out
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=_special_files)


def _special_files(folder: str, names: list[str]) -> list[str]:
    """Return pipes, sockets and devices: a copy of one may have no end."""
    return [name for name in names if _is_special(os.lstat(os.path.join(folder, name)).st_mode)]


def _is_special(mode: int) -> bool:
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))


def _content(path: str) -> list[str]:
    """Return what is in a directory; a new file system has a lost+found."""
    return [name for name in os.listdir(path) if name != "lost+found"]
