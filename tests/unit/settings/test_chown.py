"""What may be given away at the start: lists of folders, and options of chown(1)."""

from __future__ import annotations

import pytest

from launcher.model.errors import BadSetting
from launcher.settings import chown, load


@pytest.mark.parametrize(
    ("text", "folders"),
    [
        ("/data", ("/data",)),
        ("/data,/models/", ("/data", "/models")),
        ("/data /models , /data", ("/data", "/models")),
        ("/home/jovyan,/opt/venv/bin", ("/home/jovyan", "/opt/venv/bin")),
        ("/mnt//x/../y,/tmp/mine", ("/mnt/y", "/tmp/mine")),
    ],
)
def test_folders_of_a_list(text: str, folders: tuple[str, ...]) -> None:
    assert chown.folders(text) == folders


@pytest.mark.parametrize(
    "text",
    [
        "/", "//", "/etc", "/etc/passwd", "/usr/local/bin", "/opt", "/opt/launcher/bin", "/home",
        "/tmp", "/root", "/var/lib/x", "/data,/data/../etc", "/proc/1", "data", "/a\nb", ",",
    ],
)  # fmt: skip
def test_what_is_no_folder_of_yours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="folders of yours"):
        chown.folders(text)


def test_names_that_begin_alike_are_other_folders() -> None:
    assert chown.folders("/etcetera,/variables,/optimal") == ("/etcetera", "/variables", "/optimal")


@pytest.mark.parametrize(
    ("text", "taken"),
    [("-R", "-R"), ("-Rv", "-R"), ("--recursive", "-R"), ("-v -R", "-R"), ("-v", ""), ("-hc", "")],
)
def test_options_of_chown(text: str, taken: str) -> None:
    assert chown.options(text) == taken


@pytest.mark.parametrize("text", ["-RL", "--from=0", "-R; reboot", "yes", "0:0", "--reference=/"])
def test_other_options_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="-R"):
        chown.options(text)


@pytest.mark.parametrize("folder", ["/data", "/data/state", "/data/state/keys"])
def test_no_folder_of_ours_is_given_away(folder: str) -> None:
    env = {"CHOWN_EXTRA": f"/models,{folder}", "LAUNCHER_STATE_DIR": "/data/state"}
    with pytest.raises(BadSetting, match=rf"^CHOWN_EXTRA={folder} and LAUNCHER_STATE_DIR=") as bad:
        load.load_settings(env)
    assert len(str(bad.value).splitlines()) == 1
