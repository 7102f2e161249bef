"""Values as engines and editors hand them on: quotes, folders in the place of files, time zones."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.model.errors import BadSetting
from launcher.settings import time_zone
from launcher.settings.load import load_settings


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("JUPYTER_PORT", "8889", "jupyter_port", 8889),
        ("NB_UID", "1001", "uid", 1001),
        ("GRANT_SUDO", "no", "grant_sudo", False),
        ("WORKSPACE", "/data", "workspace", "/data"),
        ("NOTEBOOK_ARGS", "--debug --x=1", "jupyter_arguments", ("--debug", "--x=1")),
        ("NB_PREFIX", "/a/b", "jupyter_base_url", "/a/b/"),
    ],
)
def test_quotes_around_a_whole_value_are_none_of_it(quote, name, text, field, value) -> None:
    for given in (f"{quote}{text}{quote}", f" {quote}{text}{quote}\r"):
        found = load_settings({name: given})
        assert getattr(found, field) == value
        assert found.warnings == ()


def test_of_a_token_a_warning_says_so_and_shows_nothing_of_it() -> None:
    found = load_settings({"JUPYTER_TOKEN": '"s3cret"'})
    assert found.jupyter_token is not None
    assert found.jupyter_token.reveal() == "s3cret"
    (warning,) = found.warnings
    assert "JUPYTER_TOKEN has quotes around it" in warning
    assert "s3cret" not in warning


@pytest.mark.parametrize("text", ['"a" "b"', "'", "it's", '"a', "a'b'"])
def test_quotes_that_are_not_around_it_stay(text: str) -> None:
    found = load_settings({"JUPYTER_TOKEN": text})
    assert found.jupyter_token is not None
    assert found.jupyter_token.reveal() == text


def test_empty_quotes_are_an_empty_value() -> None:
    found = load_settings({"JUPYTER_TOKEN": '""', "JUPYTER_PORT": "''"})
    assert (found.jupyter_token, found.jupyter_port) == (None, 8888)


def test_a_folder_where_a_key_should_be_is_named_and_means_keys_only(tmp_path: Path) -> None:
    (tmp_path / "me.pub").mkdir()
    found = load_settings({"LAUNCHER_KEYS_DIR": str(tmp_path)})
    assert found.key_source_set
    (warning,) = found.warnings
    assert f"{tmp_path}/me.pub: cannot read it: it is a folder: an engine makes one" in warning
    for name in ("PUBLIC_KEY_FILE", "JUPYTER_TOKEN_FILE"):
        with pytest.raises(BadSetting, match="it is a folder: an engine makes one"):
            load_settings({name: str(tmp_path)})


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Europe/Zurich", None),
        ("UTC", None),
        ("CET-1CEST", None),
        ("<+03>-3", None),
        ("", None),
        ("Europe/Zuerich", "did you mean Europe/Zurich?"),
        ("Nowhere", "the names are those below"),
    ],
)
def test_a_zone_that_is_none_is_named(tmp_path: Path, zone: str, said: str | None) -> None:
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Zurich").touch()
    found = list(time_zone.doubts({"TZ": zone}, str(tmp_path)))
    assert len(found) == (said is not None)
    assert said is None or (f"TZ={zone} is no time zone here" in found[0] and said in found[0])


def test_an_image_without_zones_says_so(tmp_path: Path) -> None:
    (found,) = time_zone.doubts({"TZ": "Europe/Zurich"}, str(tmp_path / "none"))
    assert "apt-get install tzdata" in found
