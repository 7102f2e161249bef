"""Write what was rendered, each file whole or not at all; say where there is no room for it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Sequence

from launcher.model import run_files
from launcher.model.errors import BadSetting, shortage
from launcher.model.plan import RenderedFile

LAST_LINES = 15


_ROOM = 256 * 1024  # bytes: logs, kernels' connection files, the health report


def write(files: Sequence[RenderedFile]) -> None:
    """Write every file.

    Raises BadSetting that names the directory and what it needs, where it cannot be written.
    """
    for file in files:
        try:
            _make_directory(file) if file.content is None else write_one(file)
        except OSError as err:
            raise cannot_write(os.path.dirname(file.path), err) from err


_STALE = (
    run_files.SUPERVISOR_SOCKET, run_files.SUPERVISOR_PID, run_files.BANNER, run_files.HEALTH,
    run_files.PROGRAMS,
)  # fmt: skip


def remove_stale(run_dir: str) -> None:
    """Remove what the box of before `docker restart` left: none of it is true any more.

    Nor which services there are, where hooks have changed the settings.
    """
    services: list[str] = []
    with contextlib.suppress(OSError):
        services = [
            f"{run_files.SERVICES}/{name}" for name in os.listdir(f"{run_dir}/{run_files.SERVICES}")
        ]
    for name in (*_STALE, *services):
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{name}")


def check_temporary_directory() -> None:
    """Raise BadSetting where there is none: supervisor, kernels and logins need one."""
    import tempfile

    try:
        tempfile.gettempdir()
    except OSError as err:
        raise cannot_write("/tmp", err) from err


def check_room(directory: str) -> None:
    """Raise BadSetting where it has no room for what the services write there while they run."""
    room = os.statvfs(directory)
    if room.f_blocks and room.f_bavail * room.f_frsize < _ROOM:
        raise cannot_write(directory, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def cannot_write(path: str, err: OSError) -> BadSetting:
    if missing := shortage(err):
        return BadSetting(f"cannot write {path}: {missing}")
    return BadSetting(
        f"cannot write {path}: {err.strerror}. The launcher needs /run and /tmp to write to, and "
        "its state directory; with --read-only: "
        "docker run --tmpfs /run --tmpfs /tmp -v launcher-state:/var/lib/launcher …"
    )


def _make_directory(file: RenderedFile) -> None:
    os.makedirs(file.path, exist_ok=True)
    os.chmod(file.path, file.mode)
    _own(file.path, file)


def write_one(file: RenderedFile) -> None:
    assert file.content is not None
    new = f"{file.path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(new, flags, 0o600), "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(file.content)
        os.fchmod(out.fileno(), file.mode)
        _own(out.fileno(), file)
    os.rename(new, file.path)


def _own(where: str | int, file: RenderedFile) -> None:
    """Give the file to its owner; what we may not give away stays ours (uid -1: leave it)."""
    if os.geteuid() == 0:
        os.chown(where, file.uid, file.gid)


def last_lines(path: str) -> list[str]:
    """Return the last lines of a program's log, or none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [line.rstrip() for line in deque(log, maxlen=LAST_LINES)]
    except OSError:
        return []
