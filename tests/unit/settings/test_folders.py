"""Where the launcher's files are when nobody says, for root and for anybody else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.model import run_files
from launcher.settings import folders

ROOT = Path(__file__).parents[3]
UID = 54322
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

ASK = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from launcher.settings import folders
from launcher.model.errors import BadSetting
os.setgroups([]); os.setgid({UID}); os.setuid({UID})
try:
    run = folders.run_dir()
    print(run, folders.state_dir(run))
except BadSetting as bad:
    print("refused:", bad)
"""


def ask() -> str:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def path() -> Iterator[Path]:
    found = Path(f"/tmp/launcher-{UID}")
    yield found
    if found.is_symlink() or found.is_file():
        found.unlink()
    elif found.exists():
        found.rmdir()


@pytest.fixture
def theirs() -> Iterator[Path]:
    """Return a folder of that user's, which he can reach: a link of another's may lead there."""
    found = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(found, UID, UID)
    yield found
    found.rmdir()


@only_root
def test_root_has_the_documented_ones() -> None:
    assert folders.run_dir() == "/run/launcher"
    assert folders.state_dir("/run/launcher") == "/var/lib/launcher"


@only_root
def test_another_user_has_a_folder_of_his_own(path: Path) -> None:
    assert ask() == f"{path} {path}/state"
    path.mkdir(mode=0o700)
    os.chown(path, UID, UID)
    assert ask() == f"{path} {path}/state"


@only_root
@pytest.mark.parametrize("trap", ["anothers", "open", "link", "file"])
def test_a_folder_that_somebody_else_made_is_refused(path: Path, theirs: Path, trap: str) -> None:
    if trap == "link":
        path.symlink_to(theirs)
    elif trap == "file":
        path.touch()
        os.chown(path, UID, UID)
    else:
        path.mkdir()
        os.chown(path, UID if trap == "open" else 777, 0)
        path.chmod(0o777 if trap == "open" else 0o700)
    assert ask().startswith(f"refused: {path} belongs to somebody else")


def test_where_there_is_no_hook_none_is_looked_for(tmp_path: Path) -> None:
    assert not folders.may_have_hooks(str(tmp_path))
    (tmp_path / folders.HOOKS[0]).mkdir(parents=True)
    assert not folders.may_have_hooks(str(tmp_path)), "the image's own folder is empty"


@pytest.mark.parametrize("path", folders.HOOKS)
def test_each_place_of_hooks_counts(tmp_path: Path, path: str) -> None:
    place = tmp_path / path
    if place.suffix == ".sh":
        place.write_text("true")
    else:
        place.mkdir(parents=True)
        (place / "10-first").write_text("true")
    assert folders.may_have_hooks(str(tmp_path))


@only_root
def test_a_box_of_somebody_else_in_this_container_is_found(path: Path) -> None:
    """`launcher start --background` as the workspace user: root is told to come in as him."""
    lock = path / run_files.LOCK
    assert folders.uid_of_another_box() is None
    path.mkdir()
    os.chown(path, UID, UID)
    try:
        lock.write_text(folders.container())
        assert folders.uid_of_another_box() == UID
        lock.write_text("mnt:[1]")  # of another container, in one /tmp
        assert folders.uid_of_another_box() is None
        lock.unlink()
        os.mkfifo(lock)  # nobody makes root wait
        assert folders.uid_of_another_box() is None
    finally:
        lock.unlink()
