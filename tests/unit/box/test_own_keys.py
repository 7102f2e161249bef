"""What sshd refuses of a user's own keys, and what is his to mend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.box import own_keys


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / ".ssh/authorized_keys").write_text("ssh-ed25519 AAAA\n")
    (tmp_path / ".ssh/authorized_keys").chmod(0o600)
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", ["", ".ssh", ".ssh/authorized_keys"])
def test_what_others_can_write_to(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    me = os.geteuid()
    assert own_keys.keys_fault(str(home), me) is None
    (home / name).chmod(0o772)
    monkeypatch.setattr(own_keys, "_image_layer", lambda: -1)
    assert own_keys.keys_fault(str(home), me) == (
        f"{home / name}\nothers than its owner can write there"
    )
    monkeypatch.setattr(own_keys, "_image_layer", lambda: home.stat().st_dev)
    assert own_keys.keys_fault(str(home), me) is None
    assert (home / name).stat().st_mode & 0o777 == 0o750


@pytest.mark.parametrize("his", [True, False])
def test_a_group_of_his_alone_may_write(
    home: Path, his: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.chmod(0o775)
    monkeypatch.setattr(own_keys, "_image_layer", lambda: -1)
    monkeypatch.setattr(own_keys, "_is_his_alone", lambda gid, uid: his)
    assert (own_keys.keys_fault(str(home), os.geteuid()) is None) is his


def test_what_is_somebody_else_s(home: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(home / ".ssh", 4321, 4321)
    assert own_keys.keys_fault(str(home), 1234) == f"{home}/.ssh\nit belongs to uid 4321"
    assert own_keys.keys_fault(str(home), 4321) is None


def test_without_keys_there_is_nothing_to_refuse(home: Path) -> None:
    home.chmod(0o777)
    (home / ".ssh/authorized_keys").write_text("")
    assert own_keys.keys_fault(str(home), os.geteuid()) is None
    (home / ".ssh/authorized_keys").unlink()
    assert own_keys.keys_fault(str(home), os.geteuid()) is None
