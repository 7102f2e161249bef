"""Settings from the environment: every row of the table, and what hostile values meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.errors import BadSetting
from launcher.model.plan import GpuRequest, NamedPort, Secret
from launcher.settings import load as settings_load
from testing.strategies import values

# For each setting: a text, the value it gives, and a text that is refused (None: none is).
EXAMPLES = {
    "jupyter_token": ("abc", Secret("abc"), "a\nb"),
    "jupyter_token_file": (None, None, "relative"),  # see the tests of the file below
    "jupyter_auth": ("proxy", "proxy", "open"),
    "jupyter_port": ("9999", 9999, "http"),
    "jupyter_port_host": ("80", 80, "0"),
    "jupyter_base_url": ("/lab-7", "/lab-7/", "/a b"),
    "jupyter_arguments": ("--a='b c' -d", ("--a=b c", "-d"), "'"),
    "jupyter_disabled": ("1", True, "maybe"),
    "allow_origin": ("https://a.example/", ("https://a.example",), "a.example"),
    "page": ("off", False, "maybe"),
    "metrics_token": ("abc", Secret("abc"), "a\nb"),
    "metrics_token_file": (None, None, "relative"),
    "jupyter_idle": ("12h", 43200, "soon"),
    "tls": ("yes", True, "maybe"),
    "tls_cert": ("/tls/cert.pem", "/tls/cert.pem", "cert.pem"),
    "tls_key": ("/tls/key.pem", "/tls/key.pem", "key.pem"),
    "ssh_port": ("2022", 2022, "ssh"),
    "ssh_port_host": ("2222", 2222, "70000"),
    "public_key": ("ssh-ed25519 AAAA", "ssh-ed25519 AAAA", None),
    "public_key_file": ("/dev/null", "/dev/null", "keys"),
    "public_key_dir": ("/proc/self/task", "/proc/self/task", "keys"),  # no file in it
    "keys_dir": ("/keys", "/keys", "keys"),
    "ssh_compatible": ("1", True, "perhaps"),
    "ssh_password": ("off", "off", "hunter2"),
    "gpus": ("0,1", GpuRequest(("0", "1")), "banana"),
    "gpu_min_free": ("20GiB", 20 << 30, "much"),
    "gpu_ids": ("uuid", "uuid", "name"),
    "require_gpu": ("2", 2, "some"),
    "detect_timeout": ("2", 2.0, "soon"),
    "ready_timeout": ("90", 90.0, "-1"),
    "stop_timeout": ("290", 290.0, "never"),
    "quiet": ("1", True, "very"),
    "with_command": ("services", "services", "both"),
    "services": ("jupyter, sshd", ("jupyter", "ssh"), "jupyter;ssh"),
    "required_services": ("none", (), "a/b"),
    "restart_delay": ("0.5", 0.5, "0"),
    "hooks": ("warn", "warn", "ignore"),
    "safe_mode": ("1", True, "maybe"),
    "gpu_watch": ("0", 0.0, "1"),
    "check_pytorch": ("off", False, "later"),
    "idle_shutdown": ("4h", 14400, "later"),
    "listen": ("127.0.0.1", "127.0.0.1", "localhost"),
    "user": ("jovyan", "jovyan", "a b"),
    "uid": ("1234", 1234, "alice"),
    "gid": ("0", 0, "-1"),
    "group": ("staff", "staff", "two words"),
    "umask": ("002", 2, "9"),
    "chown_home": ("yes", True, "maybe"),
    "chown_home_opts": ("-R", "-R", "-RL"),
    "chown_extra": ("/data,/models", ("/data", "/models"), "/data,/etc"),
    "chown_extra_opts": ("-Rv", "-R", "--from=root"),
    "grant_sudo": ("no", False, "maybe"),
    "workspace": ("/data", "/data", "~/data"),
    "python": ("/usr/bin/python3", "/usr/bin/python3", "python3"),
    "ports": ("7860=Gradio", (NamedPort(7860, "Gradio"),), "7860"),
    "packages": ("workspace", "workspace", "volume"),
    "state_dir": ("/state", "/state", "."),
    "ca_certs": ("/etc/ours.pem", "/etc/ours.pem", "ours.pem"),
    "env_exclude": ("HF_TOKEN, AWS_*", ("HF_TOKEN", "AWS_*"), "HF_TOKEN=x"),
    "env_unset": ("A,B", ("A", "B"), "A;B"),
    "run_dir": ("/run/box", "/run/box", "run"),
}
ROWS = {row.field: row for row in settings_load.TABLE}
NOWHERE = {"LAUNCHER_KEYS_DIR": "/nonexistent"}


def each(*, but_for: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test on every row of the table, but for those that the test cannot be about."""
    rows = [row for row in settings_load.TABLE if row.field not in but_for]
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


ANY_TEXT = tuple(field for field, (_, _, bad) in EXAMPLES.items() if bad is None)


def load(**environ: str) -> settings_load.Settings:
    return settings_load.load_settings({**NOWHERE, **environ})


def problems(**environ: str) -> list[str]:
    with pytest.raises(BadSetting) as bad:
        load(**environ)
    assert bad.value.exit_code == 78
    return str(bad.value).splitlines()


def test_every_setting_has_an_example() -> None:
    assert EXAMPLES.keys() == ROWS.keys()
    assert len({row.name for row in settings_load.TABLE}) == len(settings_load.TABLE)


# --- one row at a time -----------------------------------------------------------------------


@each(but_for=("jupyter_token_file", "metrics_token_file"))  # have tests of their own
def test_every_name_of_a_setting_gives_its_value(row) -> None:
    text, value, _ = EXAMPLES[row.field]
    for name in (row.name, *row.aliases):
        settings = load(**{name: f" {text}\n"})
        assert getattr(settings, row.field) == value
        assert settings.given[row.field] == name


@each(but_for=("python", "keys_dir"))  # these depend on the machine
def test_unset_and_empty_give_the_default(row) -> None:
    for environ in ({}, {row.name: ""}, {row.name: " \t"}):
        settings = load(**environ)
        assert getattr(settings, row.field) == row.default
        assert row.field not in settings.given


@each(but_for=ANY_TEXT)
def test_a_bad_value_is_named_with_what_is_accepted(row) -> None:
    _, _, bad = EXAMPLES[row.field]
    for name in (row.name, *row.aliases):
        (problem,) = problems(**{name: bad})
        assert problem.startswith(f"{name}=")
        assert "expected" in problem


@pytest.mark.parametrize(
    "row",
    [row for row in settings_load.TABLE if row.aliases and row.field != "jupyter_token_file"],
    ids=lambda row: row.name,
)
def test_the_first_name_wins_over_its_aliases(row) -> None:
    text, value, _ = EXAMPLES[row.field]
    for alias in row.aliases:
        assert getattr(load(**{row.name: text, alias: "/other/9"}), row.field) == value
        # An empty variable is no answer, so the next name is asked.
        assert getattr(load(**{row.name: "", alias: text}), row.field) == value


def test_every_problem_is_reported_at_once() -> None:
    lines = problems(JUPYTER_PORT="x", SSH_PORT="99999", LAUNCHER_GPUS="banana")
    assert [line.split("=")[0] for line in lines] == ["JUPYTER_PORT", "SSH_PORT", "LAUNCHER_GPUS"]


def test_python_is_ours_where_the_image_has_none() -> None:
    assert Path(load().python).exists()


# --- what is not a setting -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["JUPYTER_PORT", "SSH_PORT", "NOTEBOOK_PORT", "WORKSPACE_PORT"])
@pytest.mark.parametrize("kind", ["tcp", "udp", "sctp"])
def test_a_kubernetes_service_link_is_no_port(name, kind) -> None:
    settings = load(**{name: f"{kind}://10.96.0.1:8888"})
    assert (settings.jupyter_port, settings.ssh_port) == (8888, 22)
    assert set(settings.given) == {"keys_dir"}
    (warning,) = settings.warnings
    assert "enableServiceLinks" in warning


def test_a_service_link_does_not_hide_the_next_name() -> None:
    assert load(SSH_PORT="tcp://10.0.0.1:22", LISTEN_PORT="2022").ssh_port == 2022


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("LAUNCHER_GPU", "LAUNCHER_GPUS"),
        ("LAUNCHER_REQUIRE_GPUS", "LAUNCHER_REQUIRE_GPU"),
        ("LAUNCHER_READY_TIMOUT", "LAUNCHER_READY_TIMEOUT"),
        ("LAUNCHER_ZZZZZZ", "launcher settings"),
    ],
)
def test_an_unknown_setting_is_a_warning_with_the_nearest_name(name, hint) -> None:
    (warning,) = load(**{name: "1"}).warnings
    assert name in warning
    assert hint in warning


def test_a_healthy_environment_warns_of_nothing() -> None:
    assert load(LAUNCHER_GPUS="all", PATH="/bin", OTHER="1").warnings == ()


# --- the token -------------------------------------------------------------------------------


def test_the_token_file_is_read_without_its_newline(tmp_path) -> None:
    (tmp_path / "token").write_text("  s3cret\r\n")
    settings = load(JUPYTER_TOKEN_FILE=f"{tmp_path}/token")
    assert settings.jupyter_token == Secret("s3cret")
    assert settings.given["jupyter_token"] == "JUPYTER_TOKEN_FILE"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be"])
def test_a_file_as_windows_writes_it(tmp_path, encoding: str) -> None:
    """Editors put a mark before the text, PowerShell's > writes UTF-16."""
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBm0hPqZ8JQmZ1yQ0m2Q7bW7Qd0mYqv2f3yY2mF3gq1W me"
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    for name, text in (("token", "s3cret"), ("key", key)):
        (tmp_path / name).write_bytes(f"{mark}{text}\r\n".encode(encoding))
    settings = load(JUPYTER_TOKEN_FILE=f"{tmp_path}/token", PUBLIC_KEY_FILE=f"{tmp_path}/key")
    assert settings.jupyter_token == Secret("s3cret")
    assert [line.text for line in settings.key_lines if line.text] == [key]


def test_the_variable_wins_over_the_file(tmp_path) -> None:
    (tmp_path / "token").write_text("file")
    settings = load(JUPYTER_TOKEN="variable", JUPYTER_TOKEN_FILE=f"{tmp_path}/token")
    assert settings.jupyter_token == Secret("variable")


def test_the_token_for_metrics_from_its_file(tmp_path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = load(LAUNCHER_METRICS_TOKEN_FILE=f"{tmp_path}/token")
    assert settings.metrics_token == Secret("s3cret")
    assert settings.given["metrics_token"] == "LAUNCHER_METRICS_TOKEN_FILE"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("", "empty", id="empty"),
        pytest.param(" \n\n", "empty", id="blank"),
        pytest.param("two\nlines", "without line breaks", id="two-lines"),
        pytest.param("x" * 5000, "4096", id="long"),
    ],
)
def test_a_token_file_that_cannot_be_used(tmp_path, content, reason) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    (problem,) = problems(JUPYTER_TOKEN_FILE=str(path))
    assert "JUPYTER_TOKEN_FILE" in problem
    assert str(path) in problem
    assert reason in problem


def test_a_token_file_that_cannot_be_read(tmp_path) -> None:
    (problem,) = problems(JUPYTER_TOKEN_FILE=str(tmp_path))  # even root cannot read a directory
    assert "cannot read it: it is a folder" in problem


def test_an_empty_token_opens_nothing() -> None:
    settings = load(JUPYTER_TOKEN="")
    assert settings.jupyter_token is None
    (warning,) = settings.warnings
    assert "JUPYTER_TOKEN is empty" in warning


def test_secrets_are_in_no_message(tmp_path) -> None:
    (tmp_path / "token").write_text("file-s3cret\nmore")
    shown = problems(JUPYTER_TOKEN="s3cret\nmore", SSH_PORT="x")
    shown += problems(JUPYTER_TOKEN_FILE=f"{tmp_path}/token")
    shown += [repr(load(JUPYTER_TOKEN="s3cret")), str(load(JUPYTER_TOKEN="s3cret").jupyter_token)]
    assert not [text for text in shown if "s3cret" in text]


# --- hostile values --------------------------------------------------------------------------

names = [name for row in settings_load.TABLE for name in (row.name, *row.aliases)]
# Made-up paths need not be read.
files = {"LAUNCHER_KEYS_DIR", "PUBLIC_KEY_FILE", "PUBLIC_KEY_DIR", "JUPYTER_TOKEN_FILE",
         "JUPYTER_PASSWORD_FILE", "LAUNCHER_METRICS_TOKEN_FILE"}  # fmt: skip


@given(
    environ=st.dictionaries(
        st.sampled_from([name for name in names if name not in files])
        | values.map(lambda text: f"LAUNCHER_{text}"),
        values,
        max_size=5,
    )
)
def test_any_environment_is_settings_or_a_named_problem(environ) -> None:
    try:
        load(**environ)
    except BadSetting as bad:
        unexplained = [line for line in str(bad).split("\n") if "expected" not in line]
    else:
        unexplained = []
    assert not unexplained


@each(but_for=ANY_TEXT)
def test_64_kib_of_text_make_one_short_line(row) -> None:
    (problem,) = problems(**{row.name: "~" * 65536})
    assert len(problem) < 300
