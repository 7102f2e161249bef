"""What the running box has written of itself: its plan, the machine it started on, its banner.

The heavier imports are inside: the health check, every ten seconds, needs none of them.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, TypeVar

from launcher.model import run_files
from launcher.model.errors import BadSetting
from launcher.settings import environ, folders

if TYPE_CHECKING:
    from launcher.model.machine import Machine
    from launcher.model.plan import Plan

T = TypeVar("T")


def read_file(name: str, run_dir: str | None = None) -> str:
    """Return a file of the running box.

    Args:
        run_dir: of the box; None = the one that the environment names.

    Raises BadSetting with what to do where there is none, or where it is root's to read.
    """
    path = f"{run_dir or environ.run_dir()}/{name}"
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError as err:
        from launcher.box import privilege

        if isinstance(err, PermissionError):
            raise BadSetting(f"cannot read {path}: {privilege.only_root('…')}") from None
        hint = privilege.of_another() or "; is the box ready?"
        raise BadSetting(f"cannot read {path}: {err.strerror}{hint}") from None


def read_value(kind: type[T], name: str, run_dir: str | None = None) -> T:
    """Return a value of the running box.  Raises BadSetting where the file holds something else."""
    from launcher.model import codec

    try:
        return codec.from_json(kind, read_file(name, run_dir))
    except (ValueError, TypeError, KeyError) as err:
        path = f"{run_dir or environ.run_dir()}/{name}"
        raise BadSetting(f"cannot read {path}: not what this launcher wrote ({err!r})") from err


def read_box() -> tuple[Plan, Machine] | None:
    """Return the running box's plan and the machine it started on, where we may read them."""
    from launcher.model.machine import Machine

    if not os.access(f"{environ.run_dir()}/{run_files.PLAN}", os.R_OK):
        return None  # the workspace user may not, and has the box's environment already
    try:
        running = read_plan()
        return (running, read_value(Machine, run_files.MACHINE)) if running else None
    except BadSetting:
        return None


def read_plan() -> Plan | None:
    """Return the plan of the running box, or None where no box runs here."""
    from launcher.model.plan import Plan

    if not os.path.exists(f"{environ.run_dir()}/{run_files.PLAN}"):
        return None
    return read_value(Plan, run_files.PLAN)


def tell_init(run_dir: str, number: int) -> None:
    """Send PID 1 a signal.  Raises OSError and ValueError where no box runs, or it is root's."""
    with open(f"{run_dir}/{run_files.SUPERVISOR_PID}", encoding="ascii") as stream:
        init = _parent(int(stream.read()))
    os.kill(init, number)


def _parent(pid: int) -> int:
    """Return the parent of a process: proc_pid_stat(5), field 4.  Raises OSError, ValueError."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        return int(stream.read().rpartition(")")[2].split()[1])


def claim(directory: str) -> None:
    """Take the run directory for this box, as long as any process of it lives.

    Raises BadSetting where another box runs there.  Where it cannot be locked, because the file
    system has no locks or is read-only, there is nothing to do here: who writes there says so.
    """
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.makedirs(directory, exist_ok=True)
        lock = os.open(f"{directory}/{run_files.LOCK}", flags, 0o600)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # inherited by every fork, lost at exec
        os.ftruncate(lock, 0)
        os.write(lock, folders.container().encode())
    except BlockingIOError:
        raise BadSetting(_taken(directory)) from None
    except OSError:
        os.close(lock)


def _taken(directory: str) -> str:
    from launcher.model.plan import Plan

    where = ""
    with contextlib.suppress(BadSetting):
        jupyter = read_value(Plan, run_files.PLAN, directory).jupyter
        where = f" with Jupyter on port {jupyter.port}" if jupyter else ""
    return (
        f"another box runs in {directory}{where} (its URL: launcher url). Stop it first, or give "
        "this one a directory of its own: LAUNCHER_RUN_DIR"
    )
