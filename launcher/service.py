"""Write what was rendered, keep the state directory, and become a service.

Root never writes below a directory that the user owns; every file is made under a new name
with its final mode and then renamed, so a reader sees the old or the new one, whole.

`subprocess` and `secrets` are imported where they are used: in children, off PID 1's way.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Iterator, Sequence

from launcher.errors import BadSetting, shortage
from launcher.key_sources import read_text, split
from launcher.model import KeyLine, RenderedFile, Secret, State
from launcher.ssh_keys import ED25519_HOST_KEY, RSA_HOST_KEY, judge, kept_key, key_pair

LAST_LINES = 15
_ROOM = 256 * 1024  # bytes: logs, kernels' connection files, the health report
# /var/log/lastlog has a place for each uid up to the largest; `docker commit` copies the gaps.
_LAST_LASTLOG_UID = 65535
ADDED = "launcher keys"  # the source of a key that was added to a running box
ADDED_KEYS = "authorized_keys"  # where those are kept, in the state directory


def write(files: Sequence[RenderedFile]) -> None:
    """Write every file.

    Raises BadSetting that names the directory and what it needs, where it cannot be written.
    """
    for file in files:
        try:
            _make_directory(file) if file.content is None else _replace(file)
        except OSError as err:
            raise _cannot_write(os.path.dirname(file.path), err) from err


_STALE = ("supervisor.sock", "supervisord.pid", "banner", "health.json", "programs.json")


def remove_stale(run_dir: str) -> None:
    """Remove what the box of before `docker restart` left: none of it is true any more.

    Nor which services there are, where hooks have changed the settings.
    """
    services: list[str] = []
    with contextlib.suppress(OSError):
        services = [f"services/{name}" for name in os.listdir(f"{run_dir}/services")]
    for name in (*_STALE, *services):
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{name}")


def check_temporary_directory() -> None:
    """Raise BadSetting where there is none: supervisor, kernels and logins need one."""
    import tempfile

    try:
        tempfile.gettempdir()
    except OSError as err:
        raise _cannot_write("/tmp", err) from err


def check_room(directory: str) -> None:
    """Raise BadSetting where it has no room for what the services write there while they run."""
    room = os.statvfs(directory)
    if room.f_blocks and room.f_bavail * room.f_frsize < _ROOM:
        raise _cannot_write(directory, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def _cannot_write(path: str, err: OSError) -> BadSetting:
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


def _replace(file: RenderedFile) -> None:
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


# --- state: what outlives a restart ---------------------------------------------------------


def open_state(directory: str, key_lines: Sequence[KeyLine], login_key: bool) -> State:
    """Read the token, the password and the host key, making each at the first start.

    Args:
        key_lines: the lines of every key source, to be validated by ssh-keygen.
        login_key: make a key pair for the owner too, for a machine whose accounts are not ours.

    Raises BadSetting where the directory cannot be written.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return State(
            token=Secret(_kept(f"{directory}/token")),
            password=Secret(_kept(f"{directory}/password")[:22]),
            host_key=key_pair(f"{directory}/{ED25519_HOST_KEY}", "launcher"),
            login_key=key_pair(f"{directory}/login_key", "launcher-login") if login_key else None,
            keys=judge((*key_lines, *added_keys(directory))),
            rsa_host_key=kept_key(f"{directory}/{RSA_HOST_KEY}"),
        )
    except OSError as err:
        raise _cannot_write(directory, err) from err


def _kept(path: str) -> str:
    """Return the secret in `path`, made at first use: 32 random bytes in base64url."""
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as stream:
        if text := stream.read().strip():
            return text
    import secrets

    text = secrets.token_urlsafe(32)
    _replace(RenderedFile(path, text, 0o600, -1, -1))
    return text


def added_keys(directory: str) -> Iterator[KeyLine]:
    """Yield the keys that `launcher keys add` put into the state directory."""
    with contextlib.suppress(FileNotFoundError):
        yield from split(ADDED, read_text(f"{directory}/{ADDED_KEYS}"))


def keep_added_keys(directory: str, lines: Sequence[KeyLine]) -> None:
    """Write them all.  Raises BadSetting where the directory cannot be written."""
    text = "".join(f"{line.text}\n" for line in lines)
    write([RenderedFile(f"{directory}/{ADDED_KEYS}", text, 0o600, -1, -1)])


# --- root's own preparations ----------------------------------------------------------------


def prepare_sshd(uid: int) -> None:
    """Make what sshd demands of root, its privilege separation directory (sshd(8), FILES).

    And where it writes who is and was logged in, for `who` and `last`: it complains without.

    Args:
        uid: the workspace user's.

    Raises BadSetting where it cannot be made.
    """
    if os.geteuid() != 0:
        return
    try:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        os.close(os.open("/run/utmp", os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as err:
        raise _cannot_write("/run", err) from err
    if uid <= _LAST_LASTLOG_UID:
        with contextlib.suppress(OSError):  # a read-only root: then it complains
            os.close(os.open("/var/log/lastlog", os.O_CREAT | os.O_CLOEXEC, 0o644))


def set_password(user: str, password: Secret | None) -> str | None:
    """Set the user's password; return why it could not be done, or None.

    `-c` hashes without PAM, which a container may not have configured (chpasswd(8)).
    """
    if password is None:
        return None
    import subprocess

    line = f"{user}:{password.reveal()}\n"
    argv = ["chpasswd", "-c", "SHA512"]
    try:
        done = subprocess.run(argv, input=line, text=True, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def last_lines(path: str) -> list[str]:
    """Return the last lines of a program's log, or none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [line.rstrip() for line in deque(log, maxlen=LAST_LINES)]
    except OSError:
        return []
