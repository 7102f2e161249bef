"""Write what was rendered, keep the state directory, and become a service.

Root never writes below a directory that the user owns; every file is made under a new name
with its final mode and then renamed, so a reader sees the old or the new one, whole.

`subprocess` and `secrets` are imported where they are used: in children, off PID 1's way.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Sequence

from launcher.errors import BadSetting
from launcher.model import KeyLine, RenderedFile, Secret, State

LAST_LINES = 15


def write(files: Sequence[RenderedFile]) -> None:
    """Write every file.

    Raises BadSetting that names the directory and what it needs, where it cannot be written.
    """
    for file in files:
        try:
            _make_directory(file) if file.content is None else _replace(file)
        except OSError as err:
            raise _cannot_write(os.path.dirname(file.path), err) from err


def remove_stale(run_dir: str) -> None:
    """Remove what the box of before `docker restart` left: none of it is true any more."""
    for name in ("supervisor.sock", "supervisord.pid", "banner"):
        with contextlib.suppress(OSError):
            os.unlink(f"{run_dir}/{name}")


def check_temporary_directory() -> None:
    """Raise BadSetting where there is none: supervisor, kernels and logins need one."""
    import tempfile

    try:
        tempfile.gettempdir()
    except OSError as err:
        raise _cannot_write("/tmp", err) from err


def _cannot_write(path: str, err: OSError) -> BadSetting:
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
            host_key=_key_pair(f"{directory}/ssh_host_ed25519_key", "launcher"),
            login_key=_key_pair(f"{directory}/login_key", "launcher-login") if login_key else None,
            keys=tuple(_validated(line) for line in key_lines),
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


def _key_pair(path: str, comment: str) -> str | None:
    """Return the public half of an ed25519 pair, made at first use; None without ssh-keygen."""
    if not os.path.exists(path):
        import subprocess

        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path]
        try:
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        except (FileNotFoundError, subprocess.CalledProcessError):
            return None
    os.chmod(path, 0o600)  # sshd ignores a host key that others can read
    with open(f"{path}.pub", encoding="ascii") as stream:
        return " ".join(stream.read().split()[:2])


def _validated(line: KeyLine) -> KeyLine:
    """Return the line, with its fault where ssh-keygen cannot read it as a public key."""
    import subprocess

    try:
        seen = subprocess.run(
            ["ssh-keygen", "-l", "-f", "-"],
            input=line.text.encode(errors="surrogateescape"),
            capture_output=True,
            timeout=10,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return line
    if seen.returncode == 0 and not seen.stdout.endswith(b"(DSA)\n"):
        return line
    # The log is no place for what was pasted by mistake: a password, a private key.
    kind = line.text.split(maxsplit=1)[0]
    is_kind = kind.startswith(("ssh-", "ecdsa-", "sk-"))
    fault = f"not a valid {kind[:40]} key" if is_kind else "not a public key"
    return KeyLine(line.source, line.number, line.text, fault)


# --- root's own preparations ----------------------------------------------------------------


def prepare_sshd() -> None:
    """Make sshd's privilege separation directory, which it demands of root (sshd(8), FILES).

    Raises BadSetting where it cannot be made.
    """
    if os.geteuid() != 0:
        return
    try:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    except OSError as err:
        raise _cannot_write("/run", err) from err


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
