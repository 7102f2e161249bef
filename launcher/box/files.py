"""Write what was rendered, each file whole or not at all; say where there is no room for it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Sequence

from launcher.model import run_files
from launcher.model.errors import BadSetting, shortage
from launcher.model.plan import RenderedFile
from launcher.paths.folder import Folder
from launcher.settings import folders

LAST_LINES = 15


_FILES = 32  # the same, in inodes
_ROOM = 256 * 1024  # bytes: logs, kernels' connection files, the health report
# What is to be written on a read-only root.  A new volume is root's: another uid cannot use it.
_OF_ROOT = "--tmpfs /run --tmpfs /tmp:exec -v launcher-state:/var/lib/launcher"
_OF_ANOTHER = "--tmpfs /tmp:exec"


def write(rendered: Sequence[RenderedFile]) -> None:
    """Write every file.

    Raises BadSetting that names the directory and what it needs, where it cannot be written.
    """
    with contextlib.ExitStack() as closed:
        opened: dict[str, Folder] = {}
        for file in rendered:
            above, name = os.path.split(file.path)
            try:
                if above not in opened:
                    made = Folder(above, make=0o755 if file.content is None else None)
                    opened[above] = closed.enter_context(made)
                _write(opened[above], name, file)
            except OSError as err:
                raise cannot_write(above, err) from err


def _write(folder: Folder, name: str, file: RenderedFile) -> None:
    if file.content is None:
        folder.make_folder(name, file.mode, file.uid, file.gid)
    else:
        content = file.content.encode(errors="surrogateescape")
        folder.write(name, content, file.mode, file.uid, file.gid)


def take_run_dir(path: str) -> None:
    """Make this run's directory root's alone, where root runs the box.

    /run itself may be everybody's to write, as an emptyDir of Kubernetes' is (mode 0777): there
    nobody may rename or remove what is another's any more (mode 1777, as /tmp).

    Raises BadSetting where others can still change it.
    """
    if os.geteuid() != 0:
        return
    with contextlib.suppress(OSError):  # a read-only root: the writer says what it needs
        if path == folders.RUN:
            with Folder(os.path.dirname(path)) as above:
                info = above.stat()
                if info.st_uid == 0 and info.st_mode & 0o022 and not info.st_mode & stat.S_ISVTX:
                    os.fchmod(above.fd, stat.S_IMODE(info.st_mode) | stat.S_ISVTX)
        with Folder(path, make=0o755) as folder:  # a tmpfs of the engine's is everybody's
            info = folder.stat()
            if info.st_uid == 0 and info.st_mode & 0o022:
                os.fchmod(folder.fd, 0o755)
    folders.check_run_dir(path)


_STALE = (
    run_files.SUPERVISOR_SOCKET, run_files.SUPERVISOR_PID, run_files.BANNER, run_files.HEALTH,
    run_files.PROGRAMS,
)  # fmt: skip


_WITH_SECRETS = (run_files.SERVICES, run_files.SSH, run_files.USER)


def remove_stale(run_dir: str, uid: int) -> None:
    """Remove what the box of before `docker restart` left: none of it is true any more.

    Nor which services there are, where hooks have changed the settings; nor what Jupyter kept as
    another user than `uid`, who cannot read it: a volume outlives a NB_UID.
    """
    services: list[str] = []
    with contextlib.suppress(OSError):
        services = [
            f"{run_files.SERVICES}/{name}" for name in os.listdir(f"{run_dir}/{run_files.SERVICES}")
        ]
    for name in (*_STALE, *services):
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{name}")
    with contextlib.suppress(OSError), Folder(f"{run_dir}/{run_files.JUPYTER}") as folder:
        for name in os.listdir(folder.fd):
            if folder.stat(name).st_uid != uid:
                folder.remove(name)


def remove_secrets(run_dir: str) -> None:
    """Remove, once nothing runs any more, what only its owner may read: it holds people's secrets.

    The next start writes it anew; `docker rm` without -v leaves the volume.
    """
    names = (run_files.LOCK, run_files.SUPERVISOR_SOCKET)
    for place in (run_dir, *(f"{run_dir}/{name}" for name in _WITH_SECRETS)):
        with contextlib.suppress(OSError), Folder(place) as folder:
            for name in os.listdir(folder.fd):
                info = folder.stat(name)
                if stat.S_ISREG(info.st_mode) and not info.st_mode & 0o077 and name not in names:
                    folder.remove(name)
    with contextlib.suppress(OSError):
        os.unlink(f"{run_dir}/{run_files.log('watch')}")  # it has the banner


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
    small = room.f_blocks and room.f_bavail * room.f_frsize < _ROOM
    if small or (room.f_files and room.f_favail < _FILES):
        raise cannot_write(directory, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def cannot_write(path: str, err: OSError) -> BadSetting:
    if missing := shortage(err):
        ours = err.errno == errno.ENOSPC and path.startswith(folders.RUN)
        more = f": docker run --tmpfs {folders.RUN} …" if ours else ""
        return BadSetting(f"cannot write {path}: {missing}{more}")
    if err.errno in (errno.EACCES, errno.EPERM):
        return BadSetting(
            f"cannot write {path}: uid {os.geteuid()} may not; name folders that it may write "
            "(LAUNCHER_STATE_DIR, LAUNCHER_RUN_DIR), or leave out what names this one"
        )
    needs, options = (
        ("/run and /tmp to write to, and its state directory", _OF_ROOT)
        if os.geteuid() == 0
        else ("/tmp to write to", _OF_ANOTHER)
    )
    return BadSetting(
        f"cannot write {path}: {err.strerror}. The launcher needs {needs}; on a root file system "
        f"that cannot be written: docker run {options} …"
    )


def last_lines(path: str) -> list[str]:
    """Return the last lines of a program's log, or none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [line.rstrip() for line in deque(log, maxlen=LAST_LINES)]
    except OSError:
        return []
