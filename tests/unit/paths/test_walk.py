"""Which links are followed, and which folders somebody else can change."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from launcher.detect.accounts import folder
from launcher.paths import walk
from launcher.paths.folder import Folder, read_file

USER = 1234
OTHER = 1235
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Return a folder of somebody else's, in one of ours."""
    tmp_path.chmod(0o755)
    made = tmp_path / "theirs"
    made.mkdir()
    os.chown(made, USER, USER)
    return made


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "ours" / "secret"
    path.parent.mkdir()
    path.write_text("root's")
    return path


def link(at: Path, to: Path | str, uid: int = USER) -> Path:
    at.symlink_to(to)
    os.chown(at, uid, uid, follow_symlinks=False)
    return at


def is_refused(path: Path) -> bool:
    try:
        read_file(str(path))
    except OSError as err:
        return err.errno == errno.ELOOP
    return False


# --- links -----------------------------------------------------------------------------------


def test_our_own_links_are_followed(tmp_path: Path, secret: Path) -> None:
    """As Kubernetes mounts a secret: token → ..data/token, ..data → ..2024."""
    (tmp_path / "..2024").mkdir()
    (tmp_path / "..2024" / "token").write_text("told")
    (tmp_path / "..data").symlink_to("..2024")
    (tmp_path / "token").symlink_to("..data/token")
    assert read_file(f"{tmp_path}/token") == b"told"
    tmp_path.chmod(0o1777)  # a tmpfs of the kubelet's: everybody may write, and replace nothing
    assert read_file(f"{tmp_path}/token") == b"told"
    with Folder(str(tmp_path)) as opened:
        assert opened.read("token") == b"told"


@needs_root
def test_a_link_of_somebody_else_s_leads_to_nothing_of_ours(theirs: Path, secret: Path) -> None:
    assert is_refused(link(theirs / "direct", secret))
    assert is_refused(link(theirs / "folder", secret.parent) / secret.name)
    assert is_refused(link(theirs / "up", "../ours/secret"))
    assert is_refused(link(theirs / "twice", theirs / "direct"))
    with Folder(str(theirs)) as opened, pytest.raises(OSError, match="not theirs"):
        opened.read("direct")


@needs_root
def test_nor_does_one_of_root_s_that_others_could_have_moved_there(
    theirs: Path, secret: Path
) -> None:
    assert is_refused(link(theirs / "moved", secret, uid=0))
    theirs.chmod(0o777)
    os.chown(theirs, 0, 0)
    assert is_refused(theirs / "moved")


@needs_root
def test_a_link_that_ends_at_its_maker_s_own_is_followed(theirs: Path) -> None:
    """`-v ~/.ssh:/keys` may have some, and he could have put the file there himself."""
    (theirs / "file").write_text("theirs")
    os.chown(theirs / "file", USER, USER)
    link(theirs / "link", "file")
    assert read_file(f"{theirs}/link") == b"theirs"
    os.chown(theirs / "file", OTHER, OTHER)
    assert is_refused(theirs / "link")


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert is_refused(tmp_path / "a")


@needs_root
def test_a_second_name_of_root_s_file_is_not_read(theirs: Path, secret: Path) -> None:
    os.link(secret, theirs / "hard")
    with pytest.raises(PermissionError, match="second name"):
        read_file(f"{theirs}/hard")


# --- who can change it -----------------------------------------------------------------------


@needs_root
def test_who_can_change_a_folder(tmp_path: Path, theirs: Path) -> None:
    assert walk.weakness(str(tmp_path / "not" / "there")) is None
    assert str(walk.weakness(f"{theirs}/below/it")) == f"{theirs} belongs to uid {USER}"
    ours = theirs / "ours"
    ours.mkdir()
    assert str(walk.weakness(str(ours))) == f"{theirs} belongs to uid {USER}"
    shared = tmp_path / "shared"
    (shared / "ours").mkdir(parents=True)
    shared.chmod(0o777)
    assert str(walk.weakness(str(shared / "ours"))) == (
        f"{shared} can be written by others (mode 0777)"
    )
    shared.chmod(0o1777)
    assert walk.weakness(str(shared / "ours")) is None
    assert walk.weakness(str(shared)) is not None
    assert walk.weakness(str(shared / "new")) is not None


@needs_root
def test_a_link_of_somebody_else_s_is_a_weakness(tmp_path: Path, theirs: Path) -> None:
    link(theirs / "link", "/usr")
    assert walk.weakness(f"{theirs}/link") is not None
    (tmp_path / "kept").symlink_to("/usr")
    assert walk.weakness(f"{tmp_path}/kept") is None


# --- whom a folder belongs to ----------------------------------------------------------------


@needs_root
def test_the_workspace_s_owner_is_not_looked_up_through_a_link(theirs: Path) -> None:
    """`mv project away; ln -s /root project`: so the user would become root."""
    project = theirs / "project"
    project.mkdir()
    os.chown(project, USER, USER)
    found = folder(str(project))
    assert found is not None
    assert (found.uid, found.replaceable) == (USER, True)
    project.rename(theirs / "away")
    link(project, "/root")
    assert folder(str(project)) is None
    project.unlink()
    link(project, "away")
    assert folder(str(project)) == found


@needs_root
def test_a_folder_of_root_s_that_others_could_have_moved_is_told(theirs: Path) -> None:
    (theirs / "project").mkdir()
    found = folder(str(theirs / "project"))
    assert found is not None
    assert (found.uid, found.replaceable) == (0, True)


def test_root_s_own_folders_are_nobody_else_s() -> None:
    found = folder("/usr")
    assert found is not None
    assert (found.uid, found.replaceable) == (0, False)
