"""Whatever lies in the state directory: the box comes up with what it prints, or says what to do.

Each kind of thing under each name, and what hypothesis thinks of.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as profile
from hypothesis import strategies as st

from launcher.box import certificate
from launcher.box import state as box_state
from launcher.box.kept import ASIDE
from launcher.model import state_files as names
from launcher.model.errors import BadSetting
from launcher.model.plan import Certificate, State
from testing.machines import settings

pytestmark = pytest.mark.long

SECRETS = (names.TOKEN, names.PASSWORD)
PRIVATE = (names.ED25519_HOST_KEY, names.RSA_HOST_KEY, names.LOGIN_KEY)
PUBLIC = tuple(f"{name}.pub" for name in PRIVATE)
EVERY_NAME = (*SECRETS, *PRIVATE, *PUBLIC, names.ADDED_KEYS, names.CERTIFICATE)


def _a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # sun_path is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _a_folder_with_something(path: Path) -> None:
    path.mkdir()
    (path / "something").touch()


def _a_key(path: Path, *options: str) -> None:
    name = str(path.with_name("elsewhere"))
    argv = ["ssh-keygen", "-q", "-t", "ed25519", *options, "-f", name]
    subprocess.run(argv, check=True)
    os.rename(f"{name}.pub" if path.suffix == ".pub" else name, path)


def _bytes(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


KINDS: dict[str, Callable[[Path], None]] = {
    "empty": Path.touch,
    "one byte": _bytes(b"x"),
    "two lines": _bytes(b"one\ntwo\n"),
    "not ASCII": _bytes("töken".encode()),
    "no text": _bytes(b"\377\376"),
    "NUL": _bytes(b"to\0ken"),
    "escapes": _bytes(b"to\033[2Jken"),
    "2 MB": _bytes(b"x" * (2 << 20)),
    "2 MB of lines": _bytes(b"xxxxxxx\n" * (1 << 18)),
    "not base64": _bytes(b"ssh-ed25519 !!!! x\n"),
    "one word": _bytes(b"hello\n"),
    "a certificate's begin": _bytes(b"-----BEGIN CERTIFICATE-----\nx"),
    "half a key": _bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU"),
    "another's key": lambda path: _a_key(path, "-N", ""),
    "a key with a passphrase": lambda path: _a_key(path, "-N", "secret"),
    "a pipe": lambda path: os.mkfifo(path),
    "a socket": _a_socket,
    "a folder": Path.mkdir,
    "a full folder": _a_folder_with_something,
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


_halves: dict[tuple[bytes, int], list[str]] = {}


def public_half(path: Path) -> list[str]:
    """Return what ssh-keygen makes of a private key, which it refuses where others may read it."""
    known = (path.read_bytes(), path.stat().st_mode)
    if known not in _halves:
        argv = ["ssh-keygen", "-y", "-P", "", "-f", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
        _halves[known] = done.stdout.split()[:2]
    return _halves[known]


class Opened:
    """What one start has read, and says."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state: State = box_state.open_state(str(path), [], login_key=True)
        asked = settings({"LAUNCHER_STATE_DIR": str(path), "LAUNCHER_TLS": "1"})
        made, remarks = certificate.provide(asked)
        assert made
        self.certificate: Certificate = made
        self.remarks = (*self.state.remarks, *remarks)

    def secrets(self) -> tuple[object, ...]:
        state, tls = self.state, self.certificate
        keys = (state.host_key, state.login_key, state.rsa_host_key)
        return state.token.reveal(), state.password.reveal(), *keys, tls.chain, tls.key.reveal()

    def check(self) -> None:
        """What is printed is what is served."""
        for secret in (self.state.token.reveal(), self.state.password.reveal()):
            assert secret.isascii()
            assert secret.isprintable()
            assert secret
        keys = (self.state.host_key, self.state.rsa_host_key, self.state.login_key)
        for name, public in zip(PRIVATE, keys, strict=True):
            if public:
                assert public_half(self.path / name) == public.split()
                assert (self.path / f"{name}.pub").read_text().split()[:2] == public.split()
        assert self.state.host_key
        pem = self.path / "pair.pem"
        pem.write_text(self.certificate.key.reveal() + self.certificate.chain)
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pem)
        pem.unlink()


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    """Return a state with everything in it."""
    path = tmp_path_factory.mktemp("whole") / "state"
    path.mkdir()
    _a_key(path / names.RSA_HOST_KEY, "-N", "")
    return Opened(path)


def check_a_start(path: Path, name: str) -> Opened | None:
    """It comes up, and again with the same; or it ends with the name of what is to be mended."""
    try:
        first = Opened(path)
    except BadSetting as bad:
        assert f"{path}/{name} cannot be used: " in str(bad)  # noqa: PT017
        return None
    first.check()
    for remark in first.remarks:
        assert remark.isprintable()
        assert f"{path}/{name}" in remark
    again = Opened(path)
    assert again.secrets() == first.secrets()
    assert not again.remarks
    return first


@pytest.mark.parametrize("kind", KINDS)
def test_a_public_half_alone(tmp_path: Path, kind: str) -> None:
    path, name = tmp_path / "state", PUBLIC[0]
    path.mkdir()
    KINDS[kind](path / name)
    check_a_start(path, name)


@pytest.mark.parametrize("name", EVERY_NAME)
@pytest.mark.parametrize("kind", KINDS)
def test_what_was_whole_is_damaged(tmp_path: Path, whole: Opened, name: str, kind: str) -> None:
    """The rest stays: one file that is lost takes no other along."""
    path = tmp_path / "state"
    shutil.copytree(whole.path, path)
    (path / name).unlink(missing_ok=True)
    KINDS[kind](path / name)
    started = check_a_start(path, name)
    if started is None:
        assert kind == "a key with a passphrase"
        return
    pairs = zip(started.secrets(), whole.secrets(), strict=True)
    changed = sum(now != was for now, was in pairs)
    assert changed <= (2 if name == names.CERTIFICATE else 1)


@pytest.mark.parametrize("name", [*SECRETS, *PRIVATE[:1], names.CERTIFICATE])
def test_what_is_put_aside_is_there(tmp_path: Path, name: str) -> None:
    """Again and again: nothing that was put aside is written over, but for files."""
    path = tmp_path / "state"
    path.mkdir()
    for content in ("one\ntwo\n", "three\nfour\n"):
        (path / name).write_text(content)
        found = Opened(path)
        assert (path / f"{name}{ASIDE}").read_text() == content
        (remark,) = found.remarks
        assert remark.endswith(f"it is now {name}{ASIDE}, and made anew")
    (path / name).unlink()
    _a_folder_with_something(path / name)
    Opened(path)
    assert (path / f"{name}{ASIDE}.1" / "something").exists()


@pytest.mark.parametrize("name", EVERY_NAME)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_read_only_mount_with_all_of_it_serves(tmp_path: Path, name: str) -> None:
    """As a secret of Kubernetes' is: and what is damaged there is named."""
    path = tmp_path / "state"
    path.mkdir()
    _a_key(path / names.RSA_HOST_KEY, "-N", "")
    made = Opened(path)
    (path / name).write_bytes(b"\377\n\0")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    _mount_read_only(path, mounted)
    try:
        if name == names.ADDED_KEYS:
            assert Opened(mounted).secrets() == made.secrets()
            return
        with pytest.raises(BadSetting, match=f"{mounted}/{name} cannot be used: "):
            Opened(mounted)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def _mount_read_only(source: Path, target: Path) -> None:
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True)


@profile(max_examples=40)
@given(name=st.sampled_from(EVERY_NAME), content=st.binary(max_size=200))
@example(name=names.TOKEN, content=b" \n")
@example(name=names.TOKEN, content=b"\x1c")  # white space to str.strip, and to nobody else
@example(name=names.ADDED_KEYS, content=b"\0" * 100)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes) -> None:
    path = tmp_path_factory.mktemp("state") / "state"
    path.mkdir()
    (path / name).write_bytes(content)
    check_a_start(path, name)


@pytest.mark.parametrize("name", [*SECRETS, names.ED25519_HOST_KEY])
def test_while_a_box_runs_by_it_nothing_is_made_anew(tmp_path: Path, name: str) -> None:
    """What it printed would not be true any more."""
    path = tmp_path / "state"
    before = Opened(path)
    whole = (path / name).read_bytes()
    (path / name).write_bytes(b"one\ntwo\n")
    with pytest.raises(BadSetting, match=f"{path}/{name} cannot be used: "):
        box_state.open_state(str(path), [], login_key=True, mend=False)
    (path / name).write_bytes(whole)
    assert Opened(path).secrets() == before.secrets()
