"""A folder that others may be able to change, and what root does in it: all by its descriptor.

Nothing here follows a link of somebody else's (`walk`), writes through a name that is there
already, or changes owner or mode of anything but what it has opened and looked at.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator

from launcher.paths.walk import Place, is_ours_alone, place

LARGEST = 1 << 20  # bytes that are read of one file
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 20  # against somebody who makes the new file's name again and again
_WORKSHOP = ".new-"  # how the name of one begins


def read_file(path: str, most: int = LARGEST) -> bytes:
    """Return a file's first `most` bytes.

    Raises OSError: EINVAL for what is no file, as a pipe or an endless device (the null device is
    an empty file), ELOOP for a link of somebody else's to what is not theirs.
    """
    with place(path) as where:
        return _read(where, most)


def read_text(path: str, most: int = LARGEST) -> str:
    """Return a file's text; bytes that are none survive (surrogateescape).

    Windows' editors put a mark of the encoding before it, and PowerShell's `>` writes UTF-16.
    """
    content = read_file(path, most)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    return content.removeprefix(codecs.BOM_UTF8).decode(errors="surrogateescape")


def _read(where: Place, most: int) -> bytes:
    fd = os.open(where.name, _READ, dir_fd=where.folder)
    try:
        info = os.fstat(fd)
        _check_file(where, info)
        chunks: list[bytes] = []
        while most > 0 and stat.S_ISREG(info.st_mode) and (chunk := os.read(fd, most)):
            chunks.append(chunk)
            most -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def _check_file(where: Place, info: os.stat_result) -> None:
    """Raise OSError for what is no file, or is one that others gave a second name here."""
    where.check(info)
    null = stat.S_ISCHR(info.st_mode) and info.st_rdev == os.makedev(1, 3)
    if stat.S_ISDIR(info.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not (stat.S_ISREG(info.st_mode) or null):
        raise OSError(errno.EINVAL, "it is no file")
    folder = os.fstat(where.folder)
    if info.st_nlink > 1 and info.st_uid != folder.st_uid and not is_ours_alone(folder):
        raise OSError(errno.EPERM, "it is a second name of somebody else's file")


class Folder:
    """An open folder; every name is one below it, without a slash."""

    def __init__(self, path: str, make: int | None = None) -> None:
        """Open it.

        Args:
            make: the mode to make it with where it is missing, and 0755 for those above it.

        Raises OSError.
        """
        with place(f"{path}/.", make) as where:
            self.fd = os.open(".", _FOLDER, dir_fd=where.folder)
        try:
            where.check(self.stat())
        except OSError:
            self.close()
            raise

    def open(self, name: str) -> Folder:
        """Open a folder in this one; a link is none."""
        return Folder.of(os.open(name, _FOLDER, dir_fd=self.fd))

    @classmethod
    def of(cls, fd: int) -> Folder:
        """Take an open descriptor of a folder."""
        made = cls.__new__(cls)
        made.fd = fd
        return made

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self.fd)

    def stat(self, name: str | None = None) -> os.stat_result:
        """Return what lstat(2) says of a name, or of the folder itself."""
        return os.fstat(self.fd) if name is None else os.lstat(name, dir_fd=self.fd)

    # --- files ---

    def read(self, name: str, most: int = LARGEST) -> bytes:
        """Return a file's content, at most so many bytes.  Raises OSError as `read_file` does."""
        path = self._linked(name)
        return read_file(path, most) if path else _read(Place(self.fd, name), most)

    def _linked(self, name: str) -> str | None:
        """Return the path of a name that is a link, as in a mounted secret of Kubernetes'."""
        if not stat.S_ISLNK(os.lstat(name, dir_fd=self.fd).st_mode):
            return None
        return f"{os.readlink(f'/proc/self/fd/{self.fd}')}/{name}"

    def write(self, name: str, content: bytes, mode: int, uid: int = -1, gid: int = -1) -> None:
        """Make or replace a file, whole, with its final mode and owner.

        A reader sees the old or the new one; what stands under the name is replaced, link or not.
        Only root gives files away (-1: they stay whose they are).
        """
        new = f"{name}.new"
        fd = self._new(new)
        try:
            while content:
                content = content[os.write(fd, content) :]
            os.fchmod(fd, mode)
            _give(fd, uid, gid)
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def _new(self, name: str) -> int:
        for left in reversed(range(_TRIES)):
            self.remove(name)  # what a start that was cut short has left
            try:
                return os.open(name, _NEW, 0o600, dir_fd=self.fd)
            except FileExistsError:
                if not left:
                    raise
        raise AssertionError

    def remove(self, name: str) -> None:
        """Remove a file or a link, if there is one."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.fd)

    def close_to_others(self, name: str) -> None:
        """Take from group and others what they may do with a file.

        With what a link leads to, where `read` follows it.
        """
        path = self._linked(name)
        with place(path) if path else contextlib.nullcontext(Place(self.fd, name)) as where:
            fd = os.open(where.name, _READ, dir_fd=where.folder)
            try:
                info = os.fstat(fd)
                _check_file(where, info)
                if info.st_mode & 0o077:
                    os.fchmod(fd, stat.S_IMODE(info.st_mode) & ~0o077)
            finally:
                os.close(fd)

    # --- folders ---

    def make_folder(self, name: str, mode: int, uid: int = -1, gid: int = -1) -> None:
        """Make a folder, or take the one that is there, and give it mode and owner.

        Raises OSError: EPERM where one of somebody else's stands in its place.
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.fd)
        fd = os.open(name, _FOLDER, dir_fd=self.fd)
        try:
            owner = os.fstat(fd).st_uid
            if os.geteuid() == 0 and owner not in (0, uid) and not is_ours_alone(self.stat()):
                raise OSError(errno.EPERM, f"the folder there belongs to uid {owner}")
            os.fchmod(fd, mode)
            _give(fd, uid, gid)
        finally:
            os.close(fd)

    def give_content(self, uid: int, gid: int, of: int) -> None:
        """Give away each thing in this folder that belongs to `of`."""
        for name in os.listdir(self.fd):
            _give_one(self.fd, name, uid, gid, of)

    def give_everything(self, uid: int, gid: int) -> Iterator[OSError | None]:
        """Give away what is below this folder, but for root's files with a name elsewhere.

        Yields for each thing why it could not be given, or None.
        """
        for _, folders, files, fd in os.fwalk(".", dir_fd=self.fd):
            for name in (*folders, *files):
                try:
                    _give_one(fd, name, uid, gid)
                except FileNotFoundError:  # somebody removed it meanwhile
                    yield None
                except OSError as err:
                    yield err
                else:
                    yield None

    @contextlib.contextmanager
    def workshop(self) -> Iterator[Folder]:
        """Make a folder in this one that nobody else can change, for a program to write to.

        A program that runs in it (`at`) and names its files without a path writes nowhere else.
        """
        self._remove_workshops()
        name = f"{_WORKSHOP}{os.urandom(8).hex()}"
        os.mkdir(name, 0o700, dir_fd=self.fd)
        with self.open(name) as made:
            info = made.stat()
            if info.st_uid != os.geteuid() or info.st_mode & 0o077:
                raise OSError(errno.EPERM, f"somebody else has put another {name} there")
            fcntl.flock(made.fd, fcntl.LOCK_EX)
            try:
                yield made
            finally:
                self._remove_workshop(name, made)

    def _remove_workshops(self) -> None:
        """Remove what a start that was cut short has left; one that is in use is locked."""
        for name in os.listdir(self.fd):
            if not name.startswith(_WORKSHOP):
                continue
            with contextlib.suppress(OSError), self.open(name) as left:
                if left.stat().st_uid == os.geteuid():
                    fcntl.flock(left.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._remove_workshop(name, left)

    def _remove_workshop(self, name: str, opened: Folder) -> None:
        for file in os.listdir(opened.fd):
            opened.remove(file)
        with contextlib.suppress(OSError):  # somebody has taken it away
            os.rmdir(name, dir_fd=self.fd)

    def move(self, name: str, there: Folder) -> None:
        """Move a file into another folder, under the same name."""
        os.rename(name, name, src_dir_fd=self.fd, dst_dir_fd=there.fd)

    @property
    def at(self) -> str:
        """Return a path of this folder for a child that starts now: its descriptor."""
        return f"/proc/self/fd/{self.fd}"


def _give(fd: int, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, uid, gid)


def _give_one(folder: int, name: str, uid: int, gid: int, of: int | None = None) -> None:
    """Give away what is opened now, and not what has the name by then.

    Never a file of root's that has a second name: a user may have made one here (link(2)).
    """
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        info = os.fstat(fd)
        second = stat.S_ISREG(info.st_mode) and info.st_nlink > 1 and info.st_uid == 0
        theirs = (info.st_uid, info.st_gid) == (uid, gid)  # a network disk writes slowly
        if not second and not theirs and of in (None, info.st_uid):
            # fchown(2) takes no O_PATH descriptor; this leads to the very thing, a link too.
            os.chown(f"/proc/self/fd/{fd}", uid, gid)
    finally:
        os.close(fd)
