"""What an SSH public key is: its parts, its binary form and its fingerprint.  Pure.

`base64` and `hashlib` are imported where they are used: off PID 1's way.
"""

from __future__ import annotations

import re

from launcher.model.named_tuple import NamedTuple

KIND = r"(ssh|sk-ssh|ecdsa|sk-ecdsa)-[a-z0-9@.-]{2,40}"
_SPACE = r"[ \t]+"  # what str.split takes for space besides is none to sshd

# What people paste in the place of one: said of it, and nothing that it holds.
PRIVATE_KEY = "a private key"
OTHER_FORMAT = "a key in another format than OpenSSH's"

# sshd(8), AUTHORIZED_KEYS FILE FORMAT: with an option it does not know, it passes over the line.
_OPTIONS = frozenset({
    "agent-forwarding", "cert-authority", "command", "environment", "expiry-time", "from",
    "permitlisten", "permitopen", "port-forwarding", "principals", "pty", "restrict",
    "touch-required", "tunnel", "user-rc", "verify-required", "x11-forwarding",
})  # fmt: skip


class PublicKey(NamedTuple):
    """The parts of one line of authorized_keys; those that it lacks are empty."""

    options: str
    kind: str
    blob: str
    comment: str


def parts(line: str) -> PublicKey:
    """Take a line apart where sshd does: spaces inside double quotes are the option's own."""
    options, rest = "", line.strip(" \t")
    if not re.fullmatch(KIND, re.split(_SPACE, rest, maxsplit=1)[0]):
        options, rest = _cut(rest)
    kind, blob, comment = ([*re.split(_SPACE, rest, maxsplit=2), "", ""])[:3]
    return PublicKey(options, kind, blob, comment)


def unknown_option(options: str) -> str | None:
    """Return the first option that sshd does not know, or None."""
    quoted = False
    name, names = "", []
    for piece in re.split(r'((?<!\\)"|,)', options):
        if piece == '"':
            quoted = not quoted
        elif piece == "," and not quoted:
            names.append(name)
            name = ""
        elif not quoted:
            name += piece
    names = [name.partition("=")[0].lower() for name in (*names, name) if name]
    return next((name for name in names if name.removeprefix("no-") not in _OPTIONS), None)


def _cut(text: str) -> tuple[str, str]:
    r"""Cut at the first space outside of double quotes; `\"` is no quote (auth2-pubkeyfile.c)."""
    quoted, at = False, 0
    for piece in re.split(r'((?<!\\)"|[ \t])', text):
        if piece == '"':
            quoted = not quoted
        elif piece in (" ", "\t") and not quoted:
            return text[:at], text[at:].strip(" \t")
        at += len(piece)
    return text, ""


def key_blob(public_key: str) -> bytes:
    """Return the binary key of "ssh-ed25519 AAAA…" (RFC 4253, section 6.6)."""
    import base64

    return base64.b64decode(public_key.split()[1])


def fingerprint(public_key: str) -> str:
    """Return the fingerprint as `ssh` shows it at the first connection."""
    import base64
    import hashlib

    digest = hashlib.sha256(key_blob(public_key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
