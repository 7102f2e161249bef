"""State and run directories that are not root's alone: what is mended, said, and refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from launcher.box import files
from launcher.box import state as box_state
from launcher.model.errors import BadSetting
from launcher.plan.plan import make_plan
from launcher.settings import environ, folders
from testing.machines import CASES, STATE, outset, settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
USER = 1234


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    made = tmp_path / "theirs"
    made.mkdir()
    os.chown(made, USER, USER)
    return made


# --- the state -------------------------------------------------------------------------------


def test_a_state_of_somebody_else_s_works_and_is_said(theirs: Path) -> None:
    before = theirs.stat()
    made = box_state.open_state(str(theirs), [], login_key=False)
    assert made.weakness == f"{theirs} belongs to uid {USER}"
    assert (theirs.stat().st_uid, theirs.stat().st_mode) == (before.st_uid, before.st_mode)
    assert box_state.open_state(str(theirs), [], login_key=False) == made


def test_a_state_below_somebody_else_s_folder_is_said(theirs: Path) -> None:
    made = box_state.open_state(f"{theirs}/state", [], login_key=False)
    assert made.weakness == f"{theirs} belongs to uid {USER}"
    assert stat.S_IMODE((theirs / "state").stat().st_mode) == 0o700


def test_an_empty_dir_of_kubernetes_is_closed_to_others(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    made = box_state.open_state(str(tmp_path / "state"), [], login_key=False)
    assert made.weakness == ""
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700


def test_the_banner_says_what_a_state_of_others_means() -> None:
    machine = CASES["h100-8x"].machine
    weak = STATE._replace(weakness="/s belongs to uid 1000")
    notes = {note.id: note for note in make_plan(outset(machine, settings({})), weak).notes}
    assert "/s belongs to uid 1000" in notes["state.of_others"].what
    assert "state.of_others" not in {
        note.id for note in make_plan(outset(machine, settings({})), STATE).notes
    }


# --- the run directory -----------------------------------------------------------------------


@pytest.mark.parametrize("below", ["", "/run", "/a/run"])
def test_a_run_directory_where_others_could_change_it_is_refused(theirs: Path, below: str) -> None:
    with pytest.raises(BadSetting, match=f"{theirs} belongs to uid {USER}") as bad:
        files.take_run_dir(f"{theirs}{below}")
    assert bad.value.exit_code == 78
    assert "LAUNCHER_RUN_DIR" in str(bad.value)


def test_root_reads_no_run_directory_that_others_could_change(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker exec -u 0` in a box of `--user`: what starts as root is written there."""
    monkeypatch.setenv("LAUNCHER_RUN_DIR", str(theirs))
    with pytest.raises(BadSetting, match="--user"):
        environ.run_dir()
    theirs.rmdir()
    theirs.symlink_to("/usr")
    os.chown(theirs, USER, USER, follow_symlinks=False)
    assert environ.run_dir() == str(theirs), "a link that root's folder has is root's"


def test_a_run_directory_in_everybody_s_folder_is_root_s(tmp_path: Path) -> None:
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm").chmod(0o1777)
    files.take_run_dir(f"{tmp_path}/shm/run")
    folders.check_run_dir(f"{tmp_path}/shm/run")
    os.chown(f"{tmp_path}/shm/run", USER, USER)
    with pytest.raises(BadSetting):
        files.take_run_dir(f"{tmp_path}/shm/run")


def test_slash_run_as_an_empty_dir_of_kubernetes_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "RUN", f"{tmp_path}/run/launcher")
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o777)
    files.take_run_dir(folders.RUN)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o1777
    os.chown(tmp_path / "run", USER, USER)
    with pytest.raises(BadSetting):
        files.take_run_dir(folders.RUN)


def test_a_run_directory_that_cannot_be_made_is_the_writer_s_to_tell() -> None:
    files.take_run_dir("/proc/launcher/run")
