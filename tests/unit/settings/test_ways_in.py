"""Names by which people think they get in: each is told what to use, and no other is."""

from __future__ import annotations

import pytest

from launcher.model.errors import BadSetting
from launcher.settings import load as settings_load

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPl7x3pzBc0QJ6mWg1cG9b2Kc0kVIB8Rlq2ZxxW3T4mG me@home"
BOTH = "JUPYTER_TOKEN is for Jupyter, PUBLIC_KEY is for SSH"
LOGIN = "PUBLIC_KEY is for SSH; without any key a random password is made and printed"
HASH = "NOTEBOOK_ARGS=--PasswordIdentityProvider.hashed_password=HASH"


def said(**environ: str) -> tuple[str, ...]:
    return settings_load.load_settings({"LAUNCHER_KEYS_DIR": "/none", **environ}).warnings


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("PASSWORD", BOTH),  # code-server, TensorFlow's images
        ("HASHED_PASSWORD", f"JUPYTER_TOKEN is for Jupyter (of a hash, {HASH}), PUBLIC_KEY is for "
         "SSH"),
        ("PASSWORD_FILE", "JUPYTER_TOKEN_FILE is for Jupyter, PUBLIC_KEY_FILE is for SSH"),
        ("CODE_SERVER_PASSWORD", BOTH),
        ("ACCESS_PASSWORD", BOTH),
        ("WORKSPACE_AUTH_PASSWORD", BOTH),
        ("NOTEBOOK_PASSWORD", "JUPYTER_TOKEN is for Jupyter"),
        ("JUPYTERLAB_PASSWORD", "JUPYTER_TOKEN is for Jupyter"),
        ("JUPYTER_NOTEBOOK_PASSWORD_HASH", f"JUPYTER_TOKEN is for Jupyter (of a hash, {HASH})"),
        ("NOTEBOOK_TOKEN", "JUPYTER_TOKEN is for Jupyter"),
        ("JUPYTER_LAB_TOKEN", "JUPYTER_TOKEN is for Jupyter"),
        ("ROOT_PASSWORD", LOGIN),
        ("USER_PASS", LOGIN),
        ("SSH_PASSWORD", LOGIN),
        ("SUDO_PASSWORD", "sudo asks for none; GRANT_SUDO=no: no sudo"),  # linuxserver.io
        ("SUDO_PASSWORD_HASH", "sudo asks for none; GRANT_SUDO=no: no sudo"),
        ("VNC_PW", "there is no desktop; JUPYTER_TOKEN is for Jupyter"),
    ],
)  # fmt: skip
def test_a_password_that_lets_nobody_in_is_told(name: str, instead: str) -> None:
    assert said(**{name: "hunter2"}) == (
        f"{name} is no setting here, so nobody gets in by it: {instead}",
    )
    assert said(**{name: " "}) == ()


@pytest.mark.parametrize(
    "name",
    [
        "PGPASSWORD", "DB_PASSWORD", "POSTGRES_PASSWORD", "MYSQL_ROOT_PASSWORD", "REDIS_PASS",
        "HF_TOKEN", "TOKEN", "GITLAB_TOKEN", "WANDB_API_KEY", "JUPYTERHUB_API_TOKEN", "PWD",
        "OLDPWD", "PASS", "ANSIBLE_SSH_PASS", "COMPASS", "JUPYTER_TOKEN", "JUPYTER_PASSWORD",
        "WEB_PASSWORD", "LAUNCHER_METRICS_TOKEN", "KERNEL_GATEWAY_TOKEN",
    ],
)  # fmt: skip
def test_those_of_programs_are_theirs(name: str) -> None:
    assert said(**{name: "x-y-z"}) == ()


def test_those_that_one_thing_stands_for_are_one_line() -> None:
    (line,) = said(PASSWORD="a", ACCESS_PASSWORD="b")
    assert (
        line == f"ACCESS_PASSWORD, PASSWORD are no settings here, so nobody gets in by it: {BOTH}"
    )


@pytest.mark.parametrize("name", ["SSH_AUTHORIZED_KEYS", "MY_KEY", "USER_PASSWORD"])
def test_a_public_key_is_told_by_what_it_is(name: str) -> None:
    assert said(**{name: f"'{KEY}'"}) == (
        f"{name} is no setting here, so nobody gets in by it: a public key in PUBLIC_KEY may log "
        "in",
    )
    assert said(PUBLIC_KEY=KEY, OPENAI_API_KEY="sk-" + "a" * 40) == ()


@pytest.mark.parametrize(
    "text",
    [
        "argon2:$argon2id$v=19$m=10240,t=10,p=8$abc",
        "sha1:67c9e60bb8b6:9ffe",
        "$2b$12$abc",
        "$6$a$b",
    ],
)
def test_a_hash_is_no_token(text: str) -> None:
    (line,) = said(JUPYTER_PASSWORD=text)
    assert line.startswith("JUPYTER_PASSWORD looks like the hash of a password")
    assert text not in line
    assert HASH in line


def test_a_password_where_a_policy_is_to_be_is_not_printed() -> None:
    for name in ("LAUNCHER_SSH_PASSWORD", "PASSWORD_ACCESS"):
        with pytest.raises(BadSetting) as bad:
            said(**{name: "hunter2"})
        assert str(bad.value).startswith(f"{name}=***: expected auto or off: no password can be")
