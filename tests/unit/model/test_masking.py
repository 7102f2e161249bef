"""What is a secret, by name and by shape."""

from __future__ import annotations

import json

import pytest

from launcher.model import masking

SECRET = "s3cret-Value"


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "PGPASSWORD", "DB_PASS", "NGC_APIKEY",
     "my_password", "SENTRY_DSN", "SESSION_COOKIE", "GOOGLE_CREDENTIALS", "NVIDIA_API_KEY",
     "BASIC_AUTH", "MYSQL_ROOT_PASSWORD", "OPENAI_KEYS", "MYSQL_PWD", "DBPASS", "LDAP_BINDPWD",
     "SMTP_PASS", "PUBLIC_KEY_PASSWORD", "MY_SSH_KEY_TOKEN"],
)  # fmt: skip
def test_a_name_tells(name: str) -> None:
    assert masking.mask(name, SECRET) == "***"
    assert masking.mask(name, "") == ""


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "KEYMAP", "PUBLIC_KEY", "JUPYTER_TOKEN_FILE", "GIT_AUTHOR_NAME",
     "SSH_AUTH_SOCK", "COMPASS", "PWD", "OLDPWD", "BYPASS", "AWS_ACCESS_KEY_ID",
     "CUDA_VISIBLE_DEVICES", "PATH", "HF_TOKEN_PATH"],
)  # fmt: skip
def test_other_names_do_not(name: str) -> None:
    assert masking.mask(name, "0,1") == "0,1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pa%40ss@host/x", "https://***@host/x"),
        ("see git+ssh://token@host and http://a:b@c", "see git+ssh://***@host and http://***@c"),
        ("ghp_0123456789abcdefghij", "***"),
        ("x hf_abcdefghijklmnopqrst y", "x *** y"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "***"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host:8443/a@b", "https://host:8443/a@b"),
        ("http://u:p@ss@host/x", "http://***@host/x"),
        ("http://u:pa/ss@host/x and more", "http://***@host/x and more"),
        ("nvapi-0123456789abcdefghij", "***"),
        ("ssh-ed25519 AAAA me@host", "ssh-ed25519 AAAA me@host"),
    ],
)
def test_a_shape_tells(text: str, shown: str) -> None:
    assert masking.mask_text(text) == shown
    assert masking.mask("ANY_NAME", text) == shown


def test_a_document_is_masked_throughout() -> None:
    document = {
        "inherited": [
            ["HF_TOKEN", SECRET],
            ["HOME", "/home/dev"],
            ["PIP_INDEX", f"http://u:{SECRET}@h"],
        ],
        "environment": [{"name": "AWS_SECRET_ACCESS_KEY", "value": SECRET, "why": "yours"}],
        "jupyter": {
            "arguments": [f"--A.b={SECRET}", "--debug", "--A.c", SECRET, "x"],
            "port": 8888,
        },
        "environ": {"DB_PASSWORD": SECRET, "LANG": "C.UTF-8"},
        "gpus": [["0", "1"], ["a", "b"], [1, 2]],
    }
    shown = masking.mask_document(document)
    assert SECRET not in json.dumps(shown)
    assert shown == {
        "inherited": [["HF_TOKEN", "***"], ["HOME", "/home/dev"], ["PIP_INDEX", "http://***@h"]],
        "environment": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "***", "why": "yours"}],
        "jupyter": {"arguments": ["--A.b=***", "--debug", "--A.c", "***", "x"], "port": 8888},
        "environ": {"DB_PASSWORD": "***", "LANG": "C.UTF-8"},
        "gpus": [["0", "1"], ["a", "b"], [1, 2]],
    }
