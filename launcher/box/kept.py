"""What lies in the state directory, where it may be anything: a pipe, a folder, half a key."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time

from launcher.model.errors import BadSetting
from launcher.paths.folder import Folder

# What opening says of a name that leads to no file of ours (paths/folder.py).
_NO_FILE = {
    errno.EISDIR: "it is a folder",
    errno.EINVAL: "it is a pipe or a device",
    errno.ENXIO: "it is a socket",
    errno.ELOOP: "it is a link to what is another's",
    errno.EPERM: "it is a second name of somebody else's file",
}
_CANNOT_BE_MOVED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY)
_PATIENCE = 5.0  # seconds for another box's turn
ASIDE = ".unusable"  # what the name of a thing that was put aside ends with


class Kept:
    """The state directory, open and ours for now; what was said of things that cannot be used."""

    def __init__(self, path: str, mend: bool = True) -> None:
        """Open it, made where it is missing, and wait for our turn.

        Args:
            mend: put aside what cannot be used; else it raises BadSetting.

        Raises OSError.
        """
        self.path = path
        self._mend = mend
        self.remarks: list[str] = []
        self.folder = Folder(path, make=0o700)
        _close_to_others(self.folder)
        take_turn(self.folder)

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.close()

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None where there is none, or what was there is put aside now.

        Raises OSError where the disk does not give it, BadSetting as `put_aside` does.
        """
        try:
            return self.folder.read(name)
        except FileNotFoundError:
            return None
        except OSError as err:
            if err.errno not in _NO_FILE:
                raise
            self.put_aside(name, _NO_FILE[err.errno])
            return None

    def put_aside(self, name: str, why: str) -> None:
        """Rename what cannot be used, so that it can be made anew and nothing is lost.

        Raises BadSetting where it cannot be renamed, as on a read-only mount.
        """
        if not self._mend:
            raise self.unusable(name, why)
        try:
            self._rename(name, f"{name}{ASIDE}")
        except OSError as err:
            if err.errno not in _CANNOT_BE_MOVED:
                raise
            raise self.unusable(name, why) from err
        self.remarks.append(
            f"{self.path}/{name} cannot be used: {why}; it is now {name}{ASIDE}, and made anew"
        )

    def unusable(self, name: str, why: str) -> BadSetting:
        """Return what ends a start for a file that its owner has to mend."""
        return BadSetting(
            f"{self.path}/{name} cannot be used: {why}; put a good one there, or remove it and a "
            "new one is made"
        )

    def _rename(self, name: str, to: str) -> None:
        """Rename it; a folder that has the name already makes way as `to` with a number."""
        for number in range(1, 100):
            try:
                os.rename(name, to, src_dir_fd=self.folder.fd, dst_dir_fd=self.folder.fd)
            except OSError as err:
                if err.errno not in (errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST):
                    raise
                to = f"{name}{ASIDE}.{number}"
            else:
                return
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))


def take_turn(folder: Folder) -> None:
    """Wait until nobody else changes what is kept here: boxes that share a volume start together.

    The turn ends when `folder` is closed.  It is not waited for without end: whoever may open the
    folder can hold it, and some file systems have no locks.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(folder.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return
            time.sleep(0.02)
        except OSError:
            return
        else:
            return


def _close_to_others(folder: Folder) -> None:
    """Mend an emptyDir of Kubernetes', which is root's and everybody's to write (mode 0777).

    A folder of somebody else's stays theirs: the plan says what that means.
    """
    info = folder.stat()
    if info.st_mode & 0o022 and info.st_uid == os.geteuid():
        with contextlib.suppress(OSError):  # a read-only mount: so nobody writes there
            os.fchmod(folder.fd, 0o700)
