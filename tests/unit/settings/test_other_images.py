"""Names from other images: those that work here, those that do not, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.plan import Secret
from launcher.plan.environment import WAYS_IN
from launcher.settings import load as settings_load
from launcher.settings.other_images import (
    NO_SETTING,
    NOT_SUPPORTED,
    ORIGIN,
    PLACEHOLDERS,
    old_hub,
    without_effect,
)
from launcher.settings.table import TABLE, Settings
from testing.strategies import values

NAMES = {name: row for row in TABLE for name in (row.name, *row.aliases)}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMD0QXduLz/35kyC9wea2nnVPHEM1mDN+V2CaaQxgIRg"

# A name, a value as its own documentation writes it, and the setting with its value here.
AS_DOCUMENTED: list[tuple[str, str, str, object]] = [
    ("JUPYTER_TOKEN", "s3cret", "jupyter_token", Secret("s3cret")),
    ("JUPYTER_PASSWORD", "s3cret", "jupyter_token", Secret("s3cret")),
    ("WEB_TOKEN", "s3cret", "jupyter_token", Secret("s3cret")),
    ("WEB_PASSWORD", "s3cret", "jupyter_token", Secret("s3cret")),
    ("OPEN_BUTTON_TOKEN", "6f1d2c", "jupyter_token", Secret("6f1d2c")),
    ("JUPYTER_PORT", "8117", "jupyter_port", 8117),
    ("NOTEBOOK_PORT", "8889", "jupyter_port", 8889),
    ("WORKSPACE_PORT", "8080/tcp", "jupyter_port", 8080),
    ("JUPYTER_PORT_HOST", "80", "jupyter_port_host", 80),
    ("SSH_PORT", "2022", "ssh_port", 2022),
    ("LISTEN_PORT", "2222", "ssh_port", 2222),
    ("SSH_PORT_HOST", "2200", "ssh_port_host", 2200),
    ("PUBLIC_KEY", KEY, "public_key", KEY),
    ("PUBLIC_KEY_FILE", "/dev/null", "public_key_file", "/dev/null"),
    ("PUBLIC_KEY_DIR", "/proc/self/task", "public_key_dir", "/proc/self/task"),
    ("SSH_PUBLIC_KEY", KEY, "public_key", KEY),
    ("SSH_PUBLIC_KEYS", KEY, "public_key", KEY),
    ("SSH_PUBKEY", KEY, "public_key", KEY),
    ("SSH_KEY", KEY, "public_key", KEY),
    ("AUTHORIZED_KEYS", KEY, "public_key", KEY),
    ("PASSWORD_ACCESS", "false", "ssh_password", "off"),
    ("PASSWORD_ACCESS", "true", "ssh_password", "auto"),
    ("SUDO_ACCESS", "false", "grant_sudo", False),
    ("GRANT_SUDO", "yes", "grant_sudo", True),
    ("GRANT_SUDO", "no", "grant_sudo", False),
    ("NB_USER", "jovyan", "user", "jovyan"),
    ("NB_UID", "1234", "uid", 1234),
    ("PUID", "1234", "uid", 1234),
    ("NB_GID", "100", "gid", 100),
    ("PGID", "100", "gid", 100),
    ("NB_GROUP", "users", "group", "users"),
    ("NB_UMASK", "002", "umask", 0o002),
    ("UMASK", "022", "umask", 0o022),
    ("CHOWN_HOME", "yes", "chown_home", True),
    ("CHOWN_HOME", "1", "chown_home", True),
    ("CHOWN_HOME_OPTS", "-R", "chown_home_opts", "-R"),
    ("CHOWN_EXTRA", "/data,/models", "chown_extra", ("/data", "/models")),
    ("CHOWN_EXTRA_OPTS", "-R", "chown_extra_opts", "-R"),
    ("WORKSPACE", "/data", "workspace", "/data"),
    ("JUPYTER_DIR", "/data/", "workspace", "/data"),
    ("NOTEBOOK_ROOT_DIR", "/opt/app-root/src", "workspace", "/opt/app-root/src"),
    ("RP_WORKSPACE", "/runpod-volume", "workspace", "/runpod-volume"),
    ("JUPYTER_DOCKER_STACKS_QUIET", "1", "quiet", True),
    ("JUPYTER_ENV_VARS_TO_UNSET", "A_SECRET,B_SECRET", "env_unset", ("A_SECRET", "B_SECRET")),
    ("JUPYTER_DISABLE", "1", "jupyter_disabled", True),
    ("SAGEMAKER_RECOVERY_MODE", "1", "safe_mode", True),
    ("NOTEBOOK_ARGS", "--log-level='DEBUG' --dev-mode", "jupyter_arguments",
     ("--log-level=DEBUG", "--dev-mode")),
    ("NB_PREFIX", "/notebook/me/mine", "jupyter_base_url", "/notebook/me/mine/"),
    ("NOTEBOOK_BASE_URL", "/notebook/me/mine", "jupyter_base_url", "/notebook/me/mine/"),
    ("WORKSPACE_BASE_URL", "/example/", "jupyter_base_url", "/example/"),
    ("JUPYTERHUB_SERVICE_PREFIX", "/user/me/", "jupyter_base_url", "/user/me/"),
    ("SHUTDOWN_INACTIVE_KERNELS", "true", "jupyter_idle", 172800),
    ("SHUTDOWN_INACTIVE_KERNELS", "3600", "jupyter_idle", 3600),
    ("GEN_CERT", "yes", "tls", True),
    ("ENABLE_HTTPS", "true", "tls", True),
    ("WEB_ENABLE_HTTPS", "true", "tls", True),
    ("WORKSPACE_SSL_ENABLED", "true", "tls", True),
]  # fmt: skip


def load(**environ: str) -> Settings:
    return settings_load.load_settings({"LAUNCHER_KEYS_DIR": "/nonexistent", **environ})


# --- those that work -------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "text", "field", "value"), AS_DOCUMENTED)
def test_a_known_name_works_as_it_is_documented(
    name: str, text: str, field: str, value: object
) -> None:
    settings = load(**{name: text})
    assert getattr(settings, field) == value
    assert settings.given[field] == name
    assert settings.warnings == ()


def test_a_token_file_by_its_other_name(tmp_path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = load(JUPYTER_PASSWORD_FILE=f"{tmp_path}/token")
    assert settings.jupyter_token == Secret("s3cret")
    assert settings.given["jupyter_token"] == "JUPYTER_PASSWORD_FILE"


def test_forty_names_at_least_are_tried() -> None:
    tried = {name for name, *_ in AS_DOCUMENTED} | {"JUPYTER_TOKEN_FILE", "JUPYTER_PASSWORD_FILE"}
    assert len(tried) >= 40
    assert tried == set(ORIGIN)


def test_every_other_name_of_a_setting_has_an_origin() -> None:
    assert set(ORIGIN) <= set(NAMES)
    assert {name for row in TABLE for name in row.aliases} <= set(ORIGIN)
    ours = {name for name in NAMES if name.startswith("LAUNCHER_")}
    assert set(NAMES) - ours == set(ORIGIN)


def test_other_names_of_a_secret_are_as_secret() -> None:
    secret = {name for name, row in NAMES.items() if row.secret}
    assert "OPEN_BUTTON_TOKEN" in secret
    assert secret <= WAYS_IN
    text = repr(load(JUPYTER_PASSWORD="hunter2-hunter2").jupyter_token)
    assert "hunter2" not in text


# --- two names of one setting ----------------------------------------------------------------


def test_the_first_of_the_table_counts_and_the_other_is_named() -> None:
    settings = load(LISTEN_PORT="2022", SSH_PORT="2222")
    assert settings.ssh_port == 2222
    assert settings.warnings == (
        "LISTEN_PORT is another name of SSH_PORT, which counts: its different value has no effect",
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_PORT": "2222", "SSH_PORT": "2222/tcp"},
        {"WORKSPACE": "/workspace", "RP_WORKSPACE": "/workspace/"},
        {"GEN_CERT": "yes", "ENABLE_HTTPS": "TRUE"},
        {"PUBLIC_KEY": KEY, "SSH_PUBLIC_KEY": "ssh-rsa AAAA"},  # keys add up
        {"JUPYTER_PORT": "9999", "NOTEBOOK_PORT": "tcp://10.96.0.1:8888"},
    ],
)
def test_two_names_that_agree_are_no_conflict(environ: dict[str, str]) -> None:
    assert not [w for w in load(**environ).warnings if "another name" in w]


def test_one_that_cannot_be_used_is_a_conflict_and_no_end() -> None:
    (warning,) = load(SSH_PORT="2222", LISTEN_PORT="ssh").warnings
    assert warning.startswith("LISTEN_PORT is another name of SSH_PORT")


def test_a_conflict_shows_no_secret() -> None:
    shown = load(JUPYTER_TOKEN="s3cret-one", WEB_TOKEN="s3cret-two").warnings
    assert len(shown) == 1
    assert "s3cret" not in shown[0]


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in PLACEHOLDERS.items() for text in texts]
)
def test_a_placeholder_counts_as_unset(name: str, text: str) -> None:
    settings = load(**{name: text})
    assert set(settings.given) == {"keys_dir"}
    assert settings.warnings == ()


def test_a_template_of_vast_opens_in_the_workspace_with_a_token_of_ours() -> None:
    template = {"OPEN_BUTTON_TOKEN": "1", "JUPYTER_DIR": "/", "DATA_DIRECTORY": "/workspace/"}
    settings = load(**template)
    assert (settings.workspace, settings.jupyter_token) == ("/workspace", None)
    assert settings.warnings == ()


# --- those that do not -----------------------------------------------------------------------


def test_no_name_is_in_two_tables() -> None:
    names = [row.name for row in NOT_SUPPORTED]
    assert len(names) == len(set(names))
    assert not set(names) & (set(NAMES) | set(ORIGIN) | set(NO_SETTING))
    assert not set(ORIGIN) & set(NO_SETTING)


@pytest.mark.parametrize("row", NOT_SUPPORTED, ids=lambda row: row.name)
def test_a_known_name_without_effect_is_named_unless_a_platform_sets_it(row) -> None:
    name = row.name.replace("*", "ABC")
    said = without_effect({name: "/some/thing"})
    if row.quiet:
        assert said == []
        return
    assert said == [
        f"known from other images, without effect here: {name}; "
        "docs/settings.md has what to use instead"
    ]
    for text in ("", *row.already, *(value.upper() for value in row.already)):
        assert without_effect({row.name: text}) == []


def test_one_line_names_them_all() -> None:
    many = {row.name: "x" for row in NOT_SUPPORTED if not row.quiet and "*" not in row.name}
    many = {name: text for name, text in many.items() if "PASSWORD" not in name}  # said by name
    (line,) = load(**many).warnings
    names, _, more = line.partition(": ")[2].partition(" and ")
    assert set(names.split(", ")) < set(many)
    assert len(names.split(", ")) == 8
    assert more.startswith(f"{len(many) - 8} more; ")
    assert len(line) < 400


@given(environ=st.dictionaries(values.map(lambda text: f"FILE__{text}"), values, max_size=3))
def test_a_hostile_name_makes_no_line_of_its_own(environ: dict[str, str]) -> None:
    for line in without_effect(environ):
        assert line.isprintable()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, 1),
        ({"JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:8888/user/a/"}, 0),
        ({"JUPYTERHUB_SERVICE_PREFIX": ""}, 0),  # a notebook that talks to a hub's API
    ],
)
def test_a_hub_of_long_ago_is_named(more: dict[str, str], said: int) -> None:
    told = {
        "JUPYTERHUB_API_TOKEN": "t",
        "JUPYTERHUB_API_URL": "http://hub:8081/hub/api",
        "JUPYTERHUB_SERVICE_PREFIX": "/user/a/",
    }
    warned = list(old_hub({**told, **more}))
    assert len(warned) == said
    assert all("a JupyterHub older than 2.0 started this box" in line for line in warned)
