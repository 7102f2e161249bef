"""Follow a path as root may: through no link that leads where its maker could not go himself.

Whoever can write a folder chooses what lies there under which name.  So each part of a path is
opened below the descriptor of the one before (openat(2), O_NOFOLLOW), and a link counts only

    where root or we made it, in a folder that nobody else can change (Kubernetes' secrets are so)
    or where it ends at what belongs to the link's maker

Trusted are root and who we are.  The health check imports this: no module but what it has anyway.
"""

from __future__ import annotations

import errno
import os
import stat

_PASS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # as the kernel: path_resolution(7)
_ANYBODY = -1  # as a maker: who it was cannot be told


class Place:
    """Where a path ends: a name in an open folder, which is no link.  To be entered (`with`)."""

    def __init__(self, folder: int, name: str, makers: frozenset[int] = frozenset()) -> None:
        self.folder = folder  # descriptor, O_PATH; closed at the end of `with`
        self.name = name  # "." for the folder itself
        self.makers = makers  # uids whose links led here

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    def check(self, info: os.stat_result) -> None:
        """Raise OSError where what was opened here is none of the links' makers."""
        if self.makers - {info.st_uid}:
            raise OSError(errno.ELOOP, "a link that others made leads there, and it is not theirs")


class Weakness:
    """A folder on a path that somebody else than root, or than us, can change."""

    def __init__(self, path: str, info: os.stat_result) -> None:
        self.path = path
        self.uid = info.st_uid
        self.mode = stat.S_IMODE(info.st_mode)

    def __str__(self) -> str:
        if _is_trusted(self.uid):
            return f"{self.path} can be written by others (mode {self.mode:04o})"
        return f"{self.path} belongs to uid {self.uid}"


def place(path: str, make: int | None = None) -> Place:
    """Walk to a path's end.

    Args:
        make: with this mode make the folder that `path/.` means, and with 0755 those above it.

    Raises OSError: ELOOP for a link that is not to be followed, and as openat(2) does.
    """
    walk = _Walk(make)
    try:
        return walk.to(path)
    except BaseException:
        os.close(walk.fd)
        raise


def weakness(path: str) -> Weakness | None:
    """Return the first folder of `path` that others can change, or None.

    The last one counts as well, and need not be there.  Raises OSError as openat(2) does.
    """
    walk = _Walk(None)
    try:
        walk.to(f"{path}/.")
    except FileNotFoundError:
        pass
    except OSError:
        if walk.weak is None:
            raise
    finally:
        os.close(walk.fd)
    return walk.weak


def weakness_of_file(path: str) -> Weakness | None:
    """Return a file itself where others can change it, or None.  Raises OSError as openat(2)."""
    with place(path) as where:
        fd = os.open(where.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=where.folder)
        info = os.fstat(fd)
        os.close(fd)
    return None if is_ours_alone(info) else Weakness(path, info)


def is_ours_alone(info: os.stat_result) -> bool:
    """Return whether nobody but root and us can change this file, or what is in this folder."""
    return _is_trusted(info.st_uid) and not info.st_mode & 0o022


class _Walk:
    """A walk along a path, and what was seen on the way."""

    def __init__(self, make: int | None) -> None:
        self.fd = os.open("/", _PASS)
        self.weak: Weakness | None = None
        self._make = make
        self._shown = "/"
        self._links = 0
        self._makers: set[int] = set()

    def to(self, path: str) -> Place:
        names = [*reversed(os.path.abspath(path).split("/"))]
        if path.endswith("/.") and names[0] != "":
            names.insert(0, ".")
        while names:
            name = names.pop()
            if not name:
                continue
            if name == ".":
                self._look(None)
                continue
            target = self._link(name)
            if target is not None:
                if target.startswith("/"):
                    self._go(os.open("/", _PASS), "/")
                names += reversed(target.split("/"))
            elif any(names):
                self._look(name)
                mode = self._make if names == ["."] else 0o755
                self._go(self._open(name, mode), os.path.join(self._shown, name))
            else:
                self._look(name)
                return Place(self.fd, name, frozenset(self._makers))
        return Place(self.fd, ".", frozenset(self._makers))

    def _go(self, fd: int, shown: str) -> None:
        os.close(self.fd)
        self.fd, self._shown = fd, shown

    def _open(self, name: str, mode: int | None) -> int:
        try:
            return os.open(name, _PASS, dir_fd=self.fd)
        except FileNotFoundError:
            if self._make is None:
                raise
        try:  # noqa: SIM105 (contextlib is not in the health check)
            os.mkdir(name, mode or 0o755, dir_fd=self.fd)
        except FileExistsError:  # another start's, meanwhile
            pass
        return os.open(name, _PASS, dir_fd=self.fd)

    def _link(self, name: str) -> str | None:
        """Return where a link leads, having noted who may have made it; None for anything else."""
        try:
            info = os.lstat(name, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        if not stat.S_ISLNK(info.st_mode):
            return None
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not _is_kept(os.fstat(self.fd), info):
            self._note()
            self._makers.add(_ANYBODY if _is_trusted(info.st_uid) else info.st_uid)
        return os.readlink(name, dir_fd=self.fd)

    def _look(self, name: str | None) -> None:
        """Note a folder whose entry `name` others can replace; for None, where they can add one."""
        folder = os.fstat(self.fd)
        if name is None:
            if not is_ours_alone(folder):
                self._note()
            return
        try:
            entry = os.lstat(name, dir_fd=self.fd)
        except OSError:  # not there, or nobody's to look at
            entry = None
        if not (_is_kept(folder, entry) if entry else is_ours_alone(folder)):
            self._note()

    def _note(self) -> None:
        self.weak = self.weak or Weakness(self._shown, os.fstat(self.fd))


def _is_trusted(uid: int) -> bool:
    return uid in (0, os.geteuid())


def _is_kept(folder: os.stat_result, entry: os.stat_result) -> bool:
    """Return whether nobody else can have put `entry` there, nor replace it."""
    if is_ours_alone(folder):
        return True
    sticky = _is_trusted(folder.st_uid) and folder.st_mode & stat.S_ISVTX
    return bool(sticky) and _is_trusted(entry.st_uid)
