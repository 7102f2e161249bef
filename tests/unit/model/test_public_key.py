"""Fingerprints as ssh shows them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from launcher.model.public_key import fingerprint, key_blob
from testing.machines import HOST_KEY, LOGIN_KEY


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@pytest.mark.parametrize("key", [HOST_KEY, LOGIN_KEY])
def test_the_fingerprint_is_the_one_that_ssh_shows(key: str) -> None:
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=key, capture_output=True, text=True, check=True
    )
    assert fingerprint(key) == shown.stdout.split()[1]


def test_the_blob_names_its_own_type() -> None:
    # RFC 4253, section 6.6: a string with its length first.
    assert key_blob(HOST_KEY).startswith(b"\0\0\0\x0bssh-ed25519")


def test_a_comment_does_not_matter() -> None:
    assert fingerprint(f"{HOST_KEY} launcher@box") == fingerprint(HOST_KEY)
