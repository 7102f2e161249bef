"""Become another program or another user: the last steps before exec."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Mapping, Sequence

from launcher.model import codec, run_files
from launcher.model.errors import BadSetting, StartFailed
from launcher.model.plan import Identity, Plan, Service
from launcher.process import tree
from launcher.process.fork import restore_signals

BASH = "/bin/bash"  # not by PATH, which begins with folders that the workspace user writes to
_KILLED_FIRST = 100  # of 1000: as if it had a tenth of the memory more (proc_pid_oom_score_adj(5))
_SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def load_service(run_dir: str, name: str) -> Service:
    """Read how to become `name`.  Raises BadSetting where nothing of that name is planned."""
    try:
        with open(f"{run_dir}/{run_files.service(name)}", encoding="utf-8") as stream:
            return codec.from_json(Service, stream.read())
    except OSError as err:
        raise BadSetting(f"cannot start {name}: {err.strerror}: {err.filename}") from err


def become(service: Service) -> None:
    """Turn this process into the service.  Returns only by raising StartFailed, with the reason."""
    restore_signals()
    be_killed_first()
    if service.uid >= 0:
        drop_to(service.uid, service.gid, service.groups)
    _enter(service.cwd, dict(service.env).get("HOME", "/"), "/")
    os.umask(service.umask)
    if service.kernels_mark:
        tree.end_orphaned_kernels(service.kernels_mark)
    env = dict(service.env)
    try:
        os.execvpe(service.argv[0], service.argv, env)
    except OSError as err:
        raise StartFailed(f"cannot run {service.argv[0]}: {err.strerror}") from err


def become_user(
    plan: Plan, argv: Sequence[str], given: Mapping[str, str], cwd: str | None, umask: int | None
) -> None:
    """Turn this process into the workspace user's `argv`, in the planned environment.

    Args:
        given: variables that count before the planned ones.
        cwd, umask: None = as they are, as the user set it.

    Returns only by raising StartFailed, with the reason.
    """
    restore_signals()
    be_killed_first()
    drop_to_identity(plan.identity)
    if umask is not None:
        os.umask(umask)
    if cwd is not None:
        _enter(cwd, plan.identity.account.home, "/")
    try:
        os.execvpe(argv[0], list(argv), {**plan.user_environment(), **given})
    except OSError as err:
        raise StartFailed(f"cannot run {argv[0]}: {err.strerror}") from err


def be_killed_first() -> None:
    """Let the kernel choose this process, where memory runs out, before those that restart it.

    It takes what has most, and of many small programs none may have more than PID 1 has.
    """
    with (
        contextlib.suppress(OSError, ValueError),
        open("/proc/self/oom_score_adj", "r+", encoding="ascii") as stream,
    ):
        wanted = min(1000, int(stream.read()) + _KILLED_FIRST)
        stream.seek(0)
        stream.write(str(wanted))


def _enter(*folders: str) -> None:
    """Go to the first of `folders` that is really there.

    A mount whose directory is gone from the host can still be entered, but has no path: a kernel
    that starts there fails.
    """
    for folder in folders:
        with contextlib.suppress(OSError):
            os.chdir(folder)
            os.getcwd()
            return


# Where the image starts what Docker is given no other folder for.
_IMAGE_WORKSPACE = "/workspace"


def drop_to_user(plan: Plan) -> None:
    """Become the workspace user; go to his workspace where we were started in the image's.

    What `docker run -w` names stays.
    """
    drop_to_identity(plan.identity)
    with contextlib.suppress(OSError):
        if os.getcwd() == _IMAGE_WORKSPACE != plan.paths.workspace:
            os.chdir(plan.paths.workspace)


def drop_to(uid: int, gid: int, groups: Sequence[int]) -> None:
    """Become another user for good; where we are not root, we already are who we can be.

    Nor is there anything to do for root, who may lack the capabilities for it.
    """
    if os.geteuid() != 0 or uid == 0:
        return
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            _hand_over(fd, uid, gid)
    os.setgroups(groups)
    os.setgid(gid)
    os.setuid(uid)


def _hand_over(fd: int, uid: int, gid: int) -> None:
    """Give a pipe or terminal away: /dev/stdout reopens it, EACCES while it is still root's.

    Nothing else: standard input is often /dev/null, which belongs to everybody.
    """
    if stat.S_ISFIFO(os.fstat(fd).st_mode) or os.isatty(fd):
        os.fchown(fd, uid, gid)


def drop_to_identity(identity: Identity) -> None:
    account = identity.account
    drop_to(account.uid, account.gid, account.groups)
    if identity.umask is not None:
        os.umask(identity.umask)


def launcher_path() -> str:
    """Return root's PATH: our own scripts first, nothing that a user can write to."""
    return f"{os.path.dirname(sys.executable)}:{_SAFE_PATH}"
