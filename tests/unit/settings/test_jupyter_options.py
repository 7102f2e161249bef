"""Options of Jupyter's that are settings: taken as those, refused where they contradict."""

from __future__ import annotations

import pytest

from launcher.model.errors import BadSetting
from launcher.settings import jupyter_options
from launcher.settings.load import load_settings


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--port=9", "jupyter_port", 9),
        ("--port 9 --ServerApp.port=9", "jupyter_port", 9),
        ("--ServerApp.base_url=/notebook/ns/me", "jupyter_base_url", "/notebook/ns/me/"),
        ("--notebook-dir=/data", "workspace", "/data"),
        ("--ServerApp.root_dir /data", "workspace", "/data"),
        ("--ServerApp.allow_origin=https://a.example", "allow_origin", ("https://a.example",)),
        ("--ServerApp.allow_origin='*'", "allow_origin", ("*",)),
        ("--ip=127.0.0.1", "listen", "127.0.0.1"),
        ("--certfile=/c --keyfile=/k", "tls_key", "/k"),
    ],
)
def test_an_option_is_the_setting(words: str, field: str, value: object) -> None:
    for name in ("NOTEBOOK_ARGS", "LAUNCHER_JUPYTER_ARGS"):
        found = load_settings({name: f"--debug {words}"})
        assert getattr(found, field) == value
        assert found.given[field].startswith(f"{name} --")
        assert found.jupyter_arguments == ("--debug",)


def test_a_token_is_taken_and_in_no_argument() -> None:
    found = load_settings({"NOTEBOOK_ARGS": "--IdentityProvider.token=s3cret"})
    assert found.jupyter_token is not None
    assert found.jupyter_token.reveal() == "s3cret"
    assert found.jupyter_arguments == ()


def test_what_open_data_hub_passes_is_taken() -> None:
    hub = '--ServerApp.tornado_settings={"user":"me","hub_host":"https://odh.example"}'
    words = (
        "--ServerApp.port=8888\n--ServerApp.token=''\n--ServerApp.password=''\n"
        f"--ServerApp.base_url=/notebook/ns/me\n--ServerApp.quit_button=False\n{hub}\n"
    )
    found = load_settings({"NOTEBOOK_ARGS": words, "NB_PREFIX": "/notebook/ns/me"})
    assert found.jupyter_token is None
    quit_button = "--ServerApp.quit_button=False"
    assert found.jupyter_arguments == ("--ServerApp.password=", quit_button, hub)
    assert any("token is empty" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("--a='b c' -d", ("--a=b c", "-d")),
        ('--x={"a":"b"} --y', ('--x={"a":"b"}', "--y")),
        ('--x=["a","b"]', ('--x=["a","b"]',)),
        ("""--x='{"a": 1}'""", ('--x={"a": 1}',)),  # quoted, as a shell wants it
        (r"--x={\"a\":1}", ('--x={"a":1}',)),
        ("""--x='a --y={"b"} c'""", ('--x=a --y={"b"} c',)),
        ("''", ("",)),
        ("--x='a", ()),
        ("--x\\", ()),
        ("", ()),
    ],
)
def test_a_line_is_split_as_a_shell_does_but_for_bare_dicts(text: str, words: object) -> None:
    assert jupyter_options.split(text) == words


@pytest.mark.parametrize(
    ("words", "environ"),
    [
        ("--port=9", {"JUPYTER_PORT": "10"}),
        ("--port=9 --ServerApp.port=10", {}),
        ("--token=a", {"JUPYTER_TOKEN": "b"}),
        ("--ServerApp.base_url=/x", {"NB_PREFIX": "/y"}),
    ],
)
def test_two_values_that_contradict_are_refused_without_showing_them(words, environ) -> None:
    with pytest.raises(BadSetting, match="contradict each other") as bad:
        load_settings({"NOTEBOOK_ARGS": words, **environ})
    assert "NOTEBOOK_ARGS --" in str(bad.value)
    assert "=a" not in str(bad.value)


def test_the_same_value_twice_is_none() -> None:
    found = load_settings({"NOTEBOOK_ARGS": "--port=9 --ServerApp.ip=*", "JUPYTER_PORT": "9"})
    assert (found.jupyter_port, found.listen) == (9, "")


def test_other_classes_options_stay_jupyter_s() -> None:
    words = "--KernelManager.ip=1.2.3.4 --MyApp.port=3"
    assert load_settings({"NOTEBOOK_ARGS": words}).jupyter_arguments == tuple(words.split())


@pytest.mark.parametrize("text", ["lab.example.org", "https://a/b", "https://a b$", "ftp://a"])
def test_an_origin_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="origins such as https://"):
        load_settings({"LAUNCHER_ALLOW_ORIGIN": text})
