"""What ssh-keygen does for us: makes key pairs, reads public keys.

`subprocess` and `secrets` are imported where they are used: in children, off PID 1's way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence

from launcher.model import state_files
from launcher.model.plan import KeyLine
from launcher.model.public_key import KIND, parts, unknown_option

# A valid key that is nobody's: 32 zero bytes.
_MARK = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + 43 * "A"
_SECONDS = 10.0  # for a thousand times as many keys as a team has
_RSA_SECONDS = 300.0  # two large primes, at the lowest priority


# --- key pairs --------------------------------------------------------------------------------


def key_pair(path: str, comment: str) -> str | None:
    """Return the public half of an ed25519 pair, made at first use; None without ssh-keygen."""
    if _is_missing(path) and not _make_pair(path, comment, "ed25519"):
        return None
    return kept_key(path)


def make_rsa_host_key(state_dir: str, environ: Mapping[str, str]) -> None:
    """Make the RSA host key where there is none: up to some seconds of a CPU, so in a child.

    3072 bits are what ssh-audit asks for, and ssh-keygen's default.

    Args:
        environ: sshd's, in which the user has a name; ssh-keygen refuses to work for another.
    """
    path = f"{state_dir}/{state_files.RSA_HOST_KEY}"
    if _is_missing(path):
        _make_pair(path, "launcher", "rsa", "-b", "3072", environ=environ)


def kept_key(path: str) -> str | None:
    """Return the public half of the pair in `path`, or None where there is none to be used."""
    if _is_missing(path):
        return None
    os.chmod(path, 0o600)  # sshd ignores a host key that others can read
    with contextlib.suppress(FileNotFoundError), open(f"{path}.pub", encoding="ascii") as stream:
        if text := stream.read():
            return " ".join(text.split()[:2])
    # The private half alone, as a mounted secret may be.
    public = _keygen(["-y", "-P", "", "-f", path])
    return " ".join(public.decode("ascii", "replace").split()[:2]) if public else None


def _is_missing(path: str) -> bool:
    """Return whether there is no such file, or one that a full disk left empty."""
    return not os.path.exists(path) or os.path.getsize(path) == 0


def _make_pair(
    path: str, comment: str, kind: str, *options: str, environ: Mapping[str, str] | None = None
) -> bool:
    """Make the pair under another name first: a start that is cut short leaves no half of one.

    Raises OSError where the disk is full.
    """
    new = f"{path}.new"
    for name in (new, f"{new}.pub"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    argv = ["-q", "-t", kind, *options, "-N", "", "-C", comment, "-f", new]
    if _keygen(argv, seconds=_RSA_SECONDS, environ=environ) is None:
        _check_room(new)
        return False
    os.rename(f"{new}.pub", f"{path}.pub")
    os.rename(new, path)
    return True


def _check_room(path: str) -> None:
    """Raise OSError where the disk is full: ssh-keygen's failure alone does not tell."""
    try:
        with open(path, "wb") as stream:
            stream.write(bytes(4096))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# --- public keys ------------------------------------------------------------------------------


def judge_keys(lines: Sequence[KeyLine]) -> tuple[KeyLine, ...]:
    """Return each line with its fingerprint or its fault, and each good key once.

    The same key with other options is another line: sshd takes the first that lets in.
    Without ssh-keygen the lines come back as they are, and sshd has the last word.
    """
    found = _fingerprints([line.text for line in lines if line.fault is None])
    if found is None:
        return tuple(lines)
    judged: list[KeyLine] = []
    seen: set[tuple[str, str]] = set()
    for line in lines:
        if line.fault is not None:
            judged.append(line)
            continue
        key = parts(line.text)
        fingerprint = next(found)
        fault = _fault(line.text, fingerprint)
        same = (key.options, fingerprint)
        if fault is None and same in seen:
            continue
        seen.add(same)
        judged.append(KeyLine(line.source, line.number, line.text, fault, fingerprint))
    return tuple(judged)


def _fault(text: str, fingerprint: str) -> str | None:
    """Say what is wrong, with nothing of what was pasted by mistake: it may be a password."""
    key = parts(text)
    if not fingerprint:
        return f"not a valid {key.kind} key" if KIND.fullmatch(key.kind) else "not a public key"
    if key.kind == "ssh-dss":
        return "a DSA key, which sshd takes no more"
    if key.options and unknown_option(key.options):
        return "not an option that sshd knows, before the key"
    return None


def _fingerprints(texts: Sequence[str]) -> Iterator[str] | None:
    """Return the fingerprint of each text, "" where it is no public key; None without ssh-keygen.

    One ssh-keygen for all, since a process each took 20 s for a megabyte.  It prints a line for
    each key that it can read and passes over the others in silence, so a mark follows each.
    """
    import secrets

    if not texts:
        return iter(())
    mark = secrets.token_hex(16)  # no comment in a key can say the same
    # One space between the parts, since ssh-keygen takes no more, as sshd does; a comment for all,
    # since for a key without one it prints what is left in its buffer of the line before (9.2).
    keys = (" ".join(filter(None, parts(text)[:3])) for text in texts)
    asked = "".join(f"{key} key\n{_MARK} {mark}\n" for key in keys).replace("\0", "?")
    printed = _keygen(["-l", "-E", "sha256", "-f", "-"], asked.encode(errors="surrogateescape"))
    if printed is None:
        return None
    fingerprints: list[str] = []
    last = ""
    for line in printed.split(b"\n"):
        words = line.split(maxsplit=2)
        if mark.encode() in line:
            fingerprints.append(last)
            last = ""
        elif len(words) > 1 and words[1].startswith(b"SHA256:"):
            last = words[1].decode("ascii", "replace")
    return iter(fingerprints) if len(fingerprints) == len(texts) else None


def _keygen(
    arguments: Sequence[str],
    stdin: bytes = b"",
    seconds: float = _SECONDS,
    environ: Mapping[str, str] | None = None,
) -> bytes | None:
    """Run ssh-keygen; return what it printed, or None where it is not there or failed."""
    import subprocess

    argv = ["ssh-keygen", *arguments]
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=seconds, env=environ)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
