"""The user's home: made, given away, filled; and root follows no link of the user's there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.box import home
from launcher.model.host import Account
from launcher.model.plan import Identity

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")

UID = 54321
DEV_UID = 54320
SKELETON = set(os.listdir(home.SKELETON))


@pytest.fixture
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of root's that every user can reach; pytest's own are private."""
    folder = tmp_path_factory.mktemp("homes")
    for above in (folder, *folder.parents):
        if above == Path("/tmp"):
            break
        above.chmod(0o755)
    return folder


def who(path: Path, **changes: object) -> Identity:
    return Identity(Account("dev", UID, UID, str(path), "/bin/sh", (UID,)), "", **changes)


def former(path: Path) -> Account:
    return Account("dev", DEV_UID, DEV_UID, str(path), "/bin/sh", (DEV_UID,))


def owners(folder: Path) -> dict[str, int]:
    return {path.name: path.lstat().st_uid for path in folder.iterdir()}


def folder_of(uid: int, path: Path, mode: int = 0o755) -> Path:
    path.mkdir()
    os.chown(path, uid, uid)
    path.chmod(mode)
    return path


def test_a_home_is_made_and_filled_by_its_user(top: Path) -> None:
    assert home.make_home(who(top / "alice")).home_fault is None
    assert (top / "alice").stat().st_uid == UID
    assert owners(top / "alice") == dict.fromkeys(SKELETON, UID)


@pytest.mark.parametrize("uid", [UID, 0])
def test_an_empty_volume_is_filled(top: Path, uid: int) -> None:
    volume = folder_of(uid, top / "volume")
    (volume / "lost+found").mkdir()
    assert home.make_home(who(volume)).home_fault is None
    assert owners(volume) == {**dict.fromkeys(SKELETON, UID), "lost+found": 0}


def test_a_home_in_use_is_left_as_it_is(top: Path) -> None:
    volume = folder_of(UID, top / "volume")
    (volume / "mine").touch()
    assert home.make_home(who(volume)).home_fault is None
    assert owners(volume) == {"mine": 0}


@pytest.mark.parametrize("uid", [0, 777])
def test_somebody_elses_home_is_not_taken(top: Path, uid: int) -> None:
    volume = folder_of(uid, top / "volume")
    (volume / "theirs").touch()
    assert home.make_home(who(volume)).home_fault == f"it belongs to uid {uid}"
    assert volume.stat().st_uid == uid


def test_a_new_uid_takes_its_files_along(top: Path) -> None:
    old = folder_of(DEV_UID, top / "dev")
    for name, uid in (("mine", DEV_UID), ("roots", 0)):
        (old / name).touch()
        os.chown(old / name, uid, uid)
    assert home.make_home(who(old, former=former(old))).home_fault is None
    assert old.stat().st_uid == UID
    assert owners(old) == {"mine": UID, "roots": 0}


def test_a_new_name_takes_a_copy_of_the_old_home(top: Path) -> None:
    old = folder_of(DEV_UID, top / "dev")
    (old / "settings").write_text("mine")
    assert home.make_home(who(top / "alice", former=former(old))).home_fault is None
    assert (top / "alice" / "settings").read_text() == "mine"
    assert owners(top / "alice") == {"settings": UID}


@pytest.mark.parametrize(("how", "inner"), [("folder", 0), ("all", UID)])
def test_chown_home(top: Path, how: str, inner: int) -> None:
    volume = folder_of(777, top / "volume")
    (volume / "file").touch()
    (volume / "deep").mkdir()
    (volume / "deep" / "file").touch()
    assert home.make_home(who(volume, chown_home=how)).home_fault is None
    assert volume.stat().st_uid == UID
    assert (volume / "deep" / "file").stat().st_uid == inner


def test_no_link_leads_root_out_of_a_home(top: Path) -> None:
    secret = top / "secret"
    secret.mkdir()
    (secret / "key").touch()
    volume = folder_of(DEV_UID, top / "volume")
    (volume / "link").symlink_to(secret)
    (volume / "file").symlink_to(secret / "key")
    os.link(secret / "key", volume / "hard")
    home.make_home(who(volume, chown_home="all", former=former(volume)))
    assert (secret.stat().st_uid, (secret / "key").stat().st_uid) == (0, 0)


def test_a_home_that_is_a_link_is_not_given_away(top: Path) -> None:
    target = folder_of(0, top / "target")
    (top / "dev").symlink_to(target)
    home.make_home(who(top / "dev", chown_home="all"))
    assert target.stat().st_uid == 0


@pytest.mark.parametrize(("uid", "mode", "may"), [(UID, 0o700, True), (777, 0o755, False)])
def test_the_user_himself_says_whether_he_may_write_the_workspace(
    top: Path, uid: int, mode: int, may: bool
) -> None:
    workspace = folder_of(uid, top / "workspace", mode)
    assert home.make_home(who(top / "alice"), str(workspace)).workspace_writable is may
