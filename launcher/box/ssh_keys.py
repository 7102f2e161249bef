"""Key pairs: made, and read with ssh-keygen, as public keys are.

`subprocess` and `secrets` are imported where they are used: in children, off PID 1's way.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from launcher.box.kept import Kept, take_turn
from launcher.model import state_files
from launcher.model.plan import KeyLine
from launcher.model.public_key import KIND, parts, unknown_option
from launcher.paths.folder import Folder
from launcher.process.fork import write_all

if TYPE_CHECKING:
    import subprocess

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

# A valid key that is nobody's: 32 zero bytes.
_MARK = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + 43 * "A"
_SECONDS = 10.0  # for a thousand times as many keys as a team has


# --- key pairs --------------------------------------------------------------------------------


def key_pair(kept: Kept, name: str, comment: str) -> str | None:
    """Return the public half of an ed25519 pair, made at first use.

    None without ssh-keygen, or where it makes none: FIPS 140 has no ed25519 everywhere.
    """
    public = kept_key(kept, name)
    if public is None and _make_pair(kept.folder, name, comment, "ed25519"):
        public = kept_key(kept, name)
    return public


def rsa_host_key(kept: Kept, make: bool) -> str | None:
    """Return the public half of the RSA host key, where there is one.

    Args:
        make: make it where there is none, which takes a while: sshd has no other.
    """
    public = kept_key(kept, state_files.RSA_HOST_KEY)
    if public is None and make:
        _write_rsa(kept.folder, _make_rsa())
        public = kept_key(kept, state_files.RSA_HOST_KEY)
    return public


def make_rsa_host_key(state_dir: str) -> str | None:
    """Make the RSA host key where there is none: up to a second of a CPU, so in a child.

    Returns its public half; None where there was one.  Raises OSError where it cannot be written.
    """
    with Folder(state_dir) as folder:
        if not _is_missing(folder, state_files.RSA_HOST_KEY):
            return None
        made = _make_rsa()
        take_turn(folder)
        if _is_missing(folder, state_files.RSA_HOST_KEY):
            _write_rsa(folder, made)
        # Another box of this state directory may have been faster: then it is that one's.
        public = folder.read(f"{state_files.RSA_HOST_KEY}.pub").decode("ascii", "replace")
        return " ".join(public.split()[:2])


def _make_rsa() -> RSAPrivateKey:
    """Make it of 3072 bits, which ssh-audit asks for, and which are ssh-keygen's default.

    Two large primes take ssh-keygen more than twice as long as this.
    """
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


def _write_rsa(folder: Folder, key: RSAPrivateKey) -> None:
    from cryptography.hazmat.primitives import serialization as to

    private = key.private_bytes(to.Encoding.PEM, to.PrivateFormat.OpenSSH, to.NoEncryption())
    public = key.public_key().public_bytes(to.Encoding.OpenSSH, to.PublicFormat.OpenSSH)
    name = state_files.RSA_HOST_KEY
    folder.write(f"{name}.pub", public + b" launcher\n", 0o644)
    folder.write(name, private, 0o600)  # last: it alone says that there is a key


def kept_key(kept: Kept, name: str) -> str | None:
    """Return the public half of a pair, or None where there is none to be used.

    The private half says what the public one is, and is what sshd proves: a `.pub` beside it that
    is another's, or none at all, is written anew.

    Raises BadSetting for a key with a passphrase, and for what cannot be mended here.
    """
    private, there = kept.read(name), kept.read(f"{name}.pub")
    if not private:  # a full disk may have left an empty file
        return None
    _close_to_others(kept, name)
    read = _read_private(private)
    if read is None:
        return None
    if read.returncode:
        if b"passphrase" in read.stderr:
            raise kept.unusable(name, "it has a passphrase, which nobody is there to type")
        kept.put_aside(name, "ssh-keygen reads no private key in it")
        return None
    public = " ".join(read.stdout.decode("ascii", "replace").split()[:2])
    if there is None or there.decode("ascii", "replace").split()[:2] != public.split():
        _write_public(kept, f"{name}.pub", public, of_another=bool(there))
    return public


def _close_to_others(kept: Kept, name: str) -> None:
    """sshd ignores a host key that others can read."""
    try:
        kept.folder.close_to_others(name)
    except OSError as err:
        if err.errno != errno.EROFS:
            raise
        raise kept.unusable(name, "others can read it; mount it with defaultMode: 0400") from err


def _write_public(kept: Kept, name: str, public: str, of_another: bool) -> None:
    """Write a public half.  sshd needs none beside the private one, and minds a wrong one."""
    why = "it is not the public half of the key beside it"
    try:
        kept.folder.write(name, f"{public} launcher\n".encode(), 0o644)
    except OSError as err:
        if err.errno not in (errno.EROFS, errno.EACCES):
            raise
        if of_another:
            raise kept.unusable(name, why) from err
        return
    if of_another:
        kept.remarks.append(f"{kept.path}/{name} cannot be used: {why}; it is written anew")


def _read_private(private: bytes) -> subprocess.CompletedProcess[bytes] | None:
    """Let ssh-keygen read a copy in memory, not a name that might lead elsewhere by then."""
    copy = os.memfd_create("key")
    try:
        write_all(copy, private)
        os.fchmod(copy, 0o600)
        return _ssh_keygen(["-y", "-P", "", "-f", f"/proc/self/fd/{copy}"], keep=(copy,))
    finally:
        os.close(copy)


def _is_missing(folder: Folder, name: str) -> bool:
    """Return whether there is no such file, or one that a full disk left empty."""
    try:
        return not folder.read(name, most=1)
    except FileNotFoundError:
        return True


def _make_pair(folder: Folder, name: str, comment: str, kind: str) -> bool:
    """Make the pair elsewhere first: a start that is cut short leaves no half of one.

    ssh-keygen writes through whatever has the name of its file, so where nobody else can write.
    Raises OSError where the disk is full.
    """
    with folder.workshop() as workshop:
        argv = ["-q", "-t", kind, "-N", "", "-C", comment, "-f", name]
        if _keygen(argv, folder=workshop.at) is None:
            # Its failure alone does not tell whether the disk is full.
            workshop.write(name, bytes(4096), 0o600)
            return False
        workshop.move(f"{name}.pub", folder)
        workshop.move(name, folder)
    return True


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
        return f"not a valid {key.kind} key" if re.fullmatch(KIND, key.kind) else "not a public key"
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
    arguments: Sequence[str], stdin: bytes = b"", folder: str | None = None
) -> bytes | None:
    """Run ssh-keygen; return what it printed, or None where it is not there or failed."""
    done = _ssh_keygen(arguments, stdin, folder)
    return done.stdout if done and done.returncode == 0 else None


def _ssh_keygen(
    arguments: Sequence[str],
    stdin: bytes = b"",
    folder: str | None = None,
    keep: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes] | None:
    """Run ssh-keygen; return None where it is not there, or does not end.

    Args:
        folder: where it runs; None = here.
        keep: descriptors that it is to have.
    """
    import subprocess

    argv = ["ssh-keygen", *arguments]
    try:
        return subprocess.run(
            argv, input=stdin, capture_output=True, timeout=_SECONDS, cwd=folder, pass_fds=keep,
            check=False,
        )  # fmt: skip
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
