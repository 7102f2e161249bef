"""Folders that people name are given to the user; nothing of the system's or of others' is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from launcher.box import home, ownership
from launcher.model.host import Account
from launcher.model.plan import Identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

UID, OTHER = 54321, 54322


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    (made / "deep").mkdir(parents=True)
    (made / "deep" / "file").touch()
    return made


def give(*paths: object, everything: bool = False) -> list[str]:
    said: list[str] = []
    account = Account("dev", UID, UID, "/home/dev", "/bin/sh", (UID,))
    extra = tuple(map(str, paths))
    identity = Identity(account, "", chown_extra=extra, chown_extra_all=everything)
    ownership.give_extra(identity, said.append)
    return said


@pytest.mark.parametrize(("everything", "inner"), [(False, 0), (True, UID)])
def test_a_folder_is_given_away(folder: Path, everything: bool, inner: int) -> None:
    assert give(folder, everything=everything) == []
    assert folder.stat().st_uid == folder.stat().st_gid == UID
    assert (folder / "deep").stat().st_uid == (folder / "deep" / "file").stat().st_uid == inner


def test_what_is_not_there_is_said_and_the_others_are_given(folder: Path) -> None:
    (said,) = give(folder / "none", folder)
    assert f"cannot give {folder}/none to dev (uid {UID}): No such file or directory" in said
    assert folder.stat().st_uid == UID


def test_a_link_of_root_s_to_the_system_is_not_followed_there(tmp_path: Path) -> None:
    before = os.stat("/usr/lib").st_uid
    (tmp_path / "lib").symlink_to("/usr/lib")
    (said,) = give(tmp_path / "lib", everything=True)
    assert said == f"CHOWN_EXTRA: {tmp_path}/lib is /usr/lib: it stays as it is"
    assert os.stat("/usr/lib").st_uid == before


def test_a_link_of_somebody_else_s_is_not_followed(tmp_path: Path, folder: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, OTHER, OTHER)
    (theirs / "link").symlink_to(folder)
    os.chown(theirs / "link", OTHER, OTHER, follow_symlinks=False)
    (said,) = give(theirs / "link", everything=True)
    assert "cannot give" in said
    assert folder.stat().st_uid == 0


def test_links_in_a_folder_lead_nowhere(tmp_path: Path, folder: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    (folder / "link").symlink_to(secret)
    os.link(secret, folder / "second")
    assert give(folder, everything=True) == []
    assert secret.stat().st_uid == 0
    assert (folder / "link").lstat().st_uid == UID


@pytest.fixture
def immutable(folder: Path) -> Path:
    """Stands in for a disk whose server lets root do nothing."""
    made = folder / "deep" / "file"
    done = subprocess.run(["chattr", "+i", made], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("this file system has no attributes")
    yield made
    subprocess.run(["chattr", "-i", made], check=True)


def test_what_cannot_be_given_is_counted_and_the_rest_is_given(
    folder: Path, immutable: Path
) -> None:
    (said,) = give(folder, everything=True)
    assert f"cannot give 1 of 2 in {folder} to dev" in said
    assert "Operation not permitted; of a network disk" in said
    assert (folder / "deep").stat().st_uid == UID
    assert immutable.stat().st_uid == 0


def test_a_home_that_cannot_be_given_is_said(folder: Path, immutable: Path) -> None:
    account = Account("dev", UID, UID, str(folder), "/bin/sh", (UID,))
    said: list[str] = []
    home.make_home(Identity(account, "", chown_home="all"), say=said.append)
    assert [line.partition(":")[0] for line in said] == ["CHOWN_HOME"]


def test_a_gift_that_takes_long_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_FIRST_WORD", -1.0)
    (said,) = give(folder, everything=True)
    assert said == f"CHOWN_EXTRA: 1 of {folder} are given away; the start waits for it"
