"""Keep the state directory, and make what sshd and logins need of root.

The state directory may be somebody else's, as a bind mount: all of it goes through `paths`.

`subprocess` and `secrets` are imported where they are used: in children, off PID 1's way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from launcher.box.files import cannot_write, write
from launcher.box.kept import Kept
from launcher.box.ssh_keys import judge_keys, key_pair, rsa_host_key
from launcher.model import state_files
from launcher.model.plan import KeyLine, RenderedFile, Secret, State
from launcher.paths import walk
from launcher.paths.folder import read_text
from launcher.settings.key_sources import split

# /var/log/lastlog has a place for each uid up to the largest; `docker commit` copies the gaps.
_LAST_LASTLOG_UID = 65535
_LONGEST_SECRET = 4096  # as a token of the settings'
ADDED = "launcher keys"  # the source of a key that was added to a running box


# --- state: what outlives a restart ---------------------------------------------------------


def open_state(
    directory: str, key_lines: Sequence[KeyLine], login_key: bool, mend: bool = True
) -> State:
    """Read the token, the password and the host key, making each at the first start.

    What lies there and cannot be used is put aside and made anew, and `remarks` says so.

    Args:
        key_lines: the lines of every key source, to be validated by ssh-keygen.
        login_key: make a key pair for the owner too, for a machine whose accounts are not ours.
        mend: False while a box runs, which goes by what it has read.

    Raises BadSetting where the directory cannot be written, or holds what only its owner can mend.
    """
    try:
        with Kept(directory, mend) as kept:
            login = key_pair(kept, state_files.LOGIN_KEY, "launcher-login") if login_key else None
            host_key = key_pair(kept, state_files.ED25519_HOST_KEY, "launcher")
            return State(
                token=Secret(_secret(kept, state_files.TOKEN)),
                password=Secret(_secret(kept, state_files.PASSWORD)[:22]),
                host_key=host_key,
                login_key=login,
                keys=judge_keys((*key_lines, *_added_keys(kept))),
                rsa_host_key=rsa_host_key(kept, make=host_key is None),
                weakness=_weakness(directory),
                remarks=tuple(kept.remarks),
            )
    except OSError as err:
        raise cannot_write(directory, err) from err


def _weakness(directory: str) -> str:
    """Return who else can change what is kept here; nothing where it is read-only for all."""
    found = walk.weakness(directory)
    read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    return str(found) if found and not read_only else ""


def _secret(kept: Kept, name: str) -> str:
    """Return a secret, made at first use: 32 random bytes in base64url."""
    text = (kept.read(name) or b"").decode("ascii", "replace").strip(" \t\r\n")
    if text and len(text) <= _LONGEST_SECRET and text.isascii() and text.isprintable():
        return text
    if text:
        kept.put_aside(name, f"it is not one line of up to {_LONGEST_SECRET} printable characters")
    import secrets

    text = secrets.token_urlsafe(32)
    kept.folder.write(name, text.encode(), 0o600)
    return text


def _added_keys(kept: Kept) -> Iterator[KeyLine]:
    """Yield the keys that `launcher keys add` put there; what is no key has its own remark."""
    content = kept.read(state_files.ADDED_KEYS) or b""
    yield from split(ADDED, content.decode(errors="surrogateescape"))


def added_keys(directory: str) -> Iterator[KeyLine]:
    """Yield the keys that `launcher keys add` put into the state directory."""
    with contextlib.suppress(FileNotFoundError):
        yield from split(ADDED, read_text(f"{directory}/{state_files.ADDED_KEYS}"))


def keep_added_keys(directory: str, lines: Sequence[KeyLine]) -> None:
    """Write them all.  Raises BadSetting where the directory cannot be written."""
    text = "".join(f"{line.text}\n" for line in lines)
    write([RenderedFile(f"{directory}/{state_files.ADDED_KEYS}", text, 0o600, -1, -1)])


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
        raise cannot_write("/run", err) from err
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
