"""ssh-keygen asked once for many keys, and key pairs that a cut-short start does not spoil."""

from __future__ import annotations

import base64
import os
import random
import stat
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.box import ssh_keys
from launcher.box.kept import Kept
from launcher.model import state_files
from launcher.model.errors import BadSetting
from launcher.model.plan import KeyLine
from launcher.model.public_key import PRIVATE_KEY, fingerprint, parts, unknown_option
from testing.machines import HOST_KEY, LOGIN_KEY
from testing.strategies import values


def ssh_string(data: bytes) -> bytes:
    """Return an SSH string: RFC 4251, section 5."""
    return struct.pack(">I", len(data)) + data


def made_up_key(number: int) -> str:
    """Return an ed25519 key that nobody has: any 32 bytes are one."""
    point = random.Random(number).randbytes(32)
    blob = ssh_string(b"ssh-ed25519") + ssh_string(point)
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} number-{number}"


def judged(*texts: str) -> list[KeyLine]:
    lines = [KeyLine("PUBLIC_KEY", n, text) for n, text in enumerate(texts, start=1)]
    return list(ssh_keys.judge_keys(lines))


# --- public keys -----------------------------------------------------------------------------


def test_each_line_has_its_own_fingerprint_or_fault() -> None:
    keys = [made_up_key(n) for n in range(5)]
    found = judged(keys[0], "garbage", keys[1], keys[2][:50], "", *keys[3:])
    good = [(key.text, key.fingerprint) for key in found if key.fault is None]
    assert good == [(key, fingerprint(key)) for key in keys if key != keys[2]]
    assert [(key.number, key.fault) for key in found if key.fault] == [
        (2, "not a public key"),
        (4, "not a valid ssh-ed25519 key"),
        (5, "not a public key"),
    ]


def test_keys_of_every_kind_beside_each_other(tmp_path: Path) -> None:
    """For one without a comment, ssh-keygen prints what its buffer still holds, a mark perhaps."""
    lines: list[str] = []
    for kind in ("ed25519", "ecdsa", "rsa", "ed25519", "ecdsa", "rsa"):
        path = tmp_path / f"{kind}-{len(lines)}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
        lines.append(" ".join(path.with_suffix(".pub").read_text().split()[:2]))
        lines.append("garbage")
    found = judged(*lines)
    assert [key.fingerprint for key in found[::2]] == [fingerprint(line) for line in lines[::2]]
    assert {key.fault for key in found[1::2]} == {"not a public key"}


def test_a_megabyte_of_keys_takes_a_second() -> None:
    keys = [made_up_key(number) for number in range(11_000)]
    assert sum(map(len, keys)) > 1_000_000
    begin = time.monotonic()
    found = judged(*keys)
    took = time.monotonic() - begin
    print(f"{took:.2f} s")
    assert took < 5, "one ssh-keygen for each would take a minute"
    assert [key.fingerprint for key in found] == [fingerprint(key) for key in keys]


def test_the_same_key_counts_once_and_the_first_source_is_named() -> None:
    lines = [
        KeyLine("PUBLIC_KEY", 1, f"{LOGIN_KEY} me@laptop"),
        KeyLine("SSH_KEY", 1, f"{LOGIN_KEY}   me@work"),
        KeyLine("SSH_KEY", 2, HOST_KEY),
    ]
    assert [(key.source, key.number) for key in ssh_keys.judge_keys(lines)] == [
        ("PUBLIC_KEY", 1),
        ("SSH_KEY", 2),
    ]


def test_the_same_key_with_other_options_is_another_line() -> None:
    assert len(judged(f"restrict {LOGIN_KEY}", LOGIN_KEY, f"restrict  {LOGIN_KEY} again")) == 2


@pytest.mark.parametrize("option", ["frobnicate", 'command="x",frobnicate', "example.org"])
def test_an_option_that_sshd_does_not_know_is_a_fault(option: str) -> None:
    (key,) = judged(f"{option} {LOGIN_KEY}")
    assert key.fault == "not an option that sshd knows, before the key"


@pytest.mark.parametrize(
    "options",
    [
        "restrict",
        "no-pty,no-X11-forwarding",
        'command="echo \\"a, b\\"; frobnicate",from="10.0.0.*,!10.0.0.7"',
        'environment="A=b c",permitopen="localhost:8888",expiry-time="20300101"',
        'cert-authority,principals="a,b",verify-required,no-touch-required',
    ],
)
def test_options_are_kept(options: str) -> None:
    (key,) = judged(f"{options} {LOGIN_KEY} me")
    assert key.fault is None
    assert key.text == f"{options} {LOGIN_KEY} me"
    assert parts(key.text).options == options
    assert unknown_option(options) is None


def test_a_file_in_utf_16_is_no_key_and_spoils_no_other() -> None:
    """As PowerShell writes one: to ssh-keygen a line ends at its first NUL."""
    wide = LOGIN_KEY.encode("utf-16").decode("utf-8", "surrogateescape")
    found = judged(HOST_KEY, wide, f"{LOGIN_KEY}\0", LOGIN_KEY)
    assert [key.number for key in found if key.fault] == [2, 3]


def test_a_line_that_has_its_fault_is_not_asked_about() -> None:
    line = KeyLine("SSH_KEY", 1, "", PRIVATE_KEY)
    assert ssh_keys.judge_keys([line]) == (line,)


def test_sshd_has_the_last_word_without_ssh_keygen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert judged("garbage", LOGIN_KEY) == [
        KeyLine("PUBLIC_KEY", 1, "garbage"),
        KeyLine("PUBLIC_KEY", 2, LOGIN_KEY),
    ]


@settings(max_examples=50)
@given(st.lists(values.filter(lambda text: not set(text) & {"\n", "\r"}), max_size=5))
def test_nothing_that_is_pasted_hides_a_good_key(texts: list[str]) -> None:
    found = judged(*texts, LOGIN_KEY)
    assert found[-1].fingerprint == fingerprint(LOGIN_KEY)
    assert all(key.fault for key in found[:-1])


# --- key pairs -------------------------------------------------------------------------------


def pair(directory: Path) -> str | None:
    with Kept(str(directory)) as opened:
        return ssh_keys.key_pair(opened, "key", "launcher")


def kept(directory: Path, name: str) -> str | None:
    with Kept(str(directory)) as opened:
        return ssh_keys.kept_key(opened, name)


def test_a_pair_is_made_once(tmp_path: Path) -> None:
    first = pair(tmp_path)
    assert first is not None
    assert first.startswith("ssh-ed25519 ")
    assert pair(tmp_path) == first
    assert sorted(os.listdir(tmp_path)) == ["key", "key.pub"]


@pytest.mark.parametrize("damage", ["no-public-half", "empty-public-half"])
def test_a_private_half_alone_is_kept(tmp_path: Path, damage: str) -> None:
    """A host key mounted as a secret, or a start that was cut short."""
    public = tmp_path / "key.pub"
    first = pair(tmp_path)
    public.unlink()
    if damage == "empty-public-half":
        public.touch()
    assert pair(tmp_path) == first


@pytest.mark.parametrize("left", ["key", "key.pub", "key.new", "key.new.pub"])
def test_what_a_full_disk_or_a_kill_left_is_no_obstacle(tmp_path: Path, left: str) -> None:
    (tmp_path / left).touch()
    made = pair(tmp_path)
    assert made is not None
    assert made.startswith("ssh-ed25519 ")


def test_a_key_with_a_passphrase_is_not_replaced(tmp_path: Path) -> None:
    """It is somebody's, and sshd is no reason to lose it."""
    path = tmp_path / "key"
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)]
    subprocess.run(argv, check=True)
    (tmp_path / "key.pub").unlink()
    before = path.read_bytes()
    with pytest.raises(BadSetting, match=f"{path} cannot be used: it has a passphrase"):
        pair(tmp_path)
    assert path.read_bytes() == before


def test_the_rsa_host_key(tmp_path: Path) -> None:
    ssh_keys.make_rsa_host_key(str(tmp_path))
    path = tmp_path / state_files.RSA_HOST_KEY
    made = kept(tmp_path, state_files.RSA_HOST_KEY)
    ssh_keys.make_rsa_host_key(str(tmp_path))
    assert kept(tmp_path, state_files.RSA_HOST_KEY) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = subprocess.run(["ssh-keygen", "-l", "-f", path], capture_output=True, text=True)
    assert int(shown.stdout.split()[0]) >= 3072
    held = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True)
    assert held.stdout.split()[:2] == made.split()[:2], "sshd reads the private half"


def test_boxes_of_one_state_directory_agree_on_the_rsa_host_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as boxes:
        made = set(boxes.map(ssh_keys.make_rsa_host_key, [str(tmp_path)] * 4)) - {None}
    assert made == {kept(tmp_path, state_files.RSA_HOST_KEY)}
