"""What an SSH public key is: its binary form and its fingerprint.  Pure."""

from __future__ import annotations

import base64
import hashlib


def key_blob(public_key: str) -> bytes:
    """Return the binary key of "ssh-ed25519 AAAA…" (RFC 4253, section 6.6)."""
    return base64.b64decode(public_key.split()[1])


def fingerprint(public_key: str) -> str:
    """Return the fingerprint as `ssh` shows it at the first connection."""
    digest = hashlib.sha256(key_blob(public_key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
