"""What of the environment is a secret, by its name or its shape, and is printed as ***.  Pure.

A command's output is pasted into issues and chats; the variables of a box hold people's keys.
"""

from __future__ import annotations

import re

MASK = "***"

# HF_TOKEN, AWS_SECRET_ACCESS_KEY, PGPASSWORD, MYSQL_PWD, DBPASS; not TOKENIZERS_PARALLELISM,
# KEYMAP, PWD, OLDPWD, COMPASS.
_NAME = (
    r"(?i)(?:^|_)(?:[A-Z0-9]*(?<!COM)(?<!BY)(?<!SUR)PASS|(?!OLD)[A-Z0-9]+PWD|(?<=_)PWD"
    r"|[A-Z0-9]*(?:KEY|TOKEN|SECRET|PASSWD|PASSWORD|PASSPHRASE|CREDENTIAL|AUTH|COOKIE|DSN))S?(?:_|$)"
)
_PUBLIC = r"(?i)(?:^|_)(?:PUBLIC_KEY|SSH_KEY|KEY_ID|FILE|DIR|PATH|SOCK)$"
# https://user:password@host (RFC 3986, section 3.2.1); a token alone may stand there too.  People
# write an @ or a slash in a password as it is.
_IN_URL = r"(?i)(\b[a-z][a-z0-9+.-]*://)(?:[^/\s:@]*:(?!\d{1,5}(?:/|$))\S*@|[^/\s]+@)"
# Tokens that say what they are: of GitHub, GitLab, Hugging Face, OpenAI, Slack, AWS, Google,
# NVIDIA.
_TOKEN = (
    r"\b(?:gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abpr]-|AKIA|AIza|nvapi-)[A-Za-z0-9_-]{12,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def is_secret(name: str) -> bool:
    """Return whether a variable of this name holds a secret, as people name them."""
    return bool(re.search(_NAME, name)) and not re.search(_PUBLIC, name)


def mask(name: str, value: str) -> str:
    """Return a variable's value as it may be shown."""
    return MASK if value and is_secret(name) else mask_text(value)


def mask_text(text: str) -> str:
    """Return a text without passwords in URLs and tokens that are known by their shape."""
    if re.search(_TOKEN, text) and "PRIVATE KEY" in text:
        return MASK
    return re.sub(_TOKEN, MASK, re.sub(_IN_URL, rf"\g<1>{MASK}@", text))


def mask_options(words: list[str]) -> list[str]:
    """Return a command line without the options' values, which may be anything.

    A value is what follows the equals sign, or the word after a bare option.
    """
    return [
        MASK if _is_option(before) and not word.startswith("-") else _mask_option(word)
        for before, word in zip(["", *words], words, strict=False)
    ]


def _is_option(word: str) -> bool:
    return word.startswith("--") and "=" not in word and len(word) > 2


def _mask_option(word: str) -> str:
    name, equals, _ = word.partition("=")
    return f"{name}={MASK}" if equals else mask_text(word)


def mask_document(value: object) -> object:
    """Return a JSON document with each variable in it as it may be shown.

    A variable is {"name": …, "value": …}, a pair of strings, or a member whose name is in capitals.
    """
    if isinstance(value, dict):
        shown = {key: _member(key, item) for key, item in value.items()}
        if isinstance(name := value.get("name"), str) and isinstance(shown.get("value"), str):
            shown["value"] = mask(name, str(value["value"]))
        return shown
    if isinstance(value, list):
        if len(value) == 2 and all(isinstance(item, str) for item in value):
            name, text = value
            return [name, mask(name, text)] if re.fullmatch(_VARIABLE, name) else _texts(value)
        return [mask_document(item) for item in value]
    return mask_text(value) if isinstance(value, str) else value


def _member(name: str, value: object) -> object:
    if isinstance(value, str) and name.isupper():
        return mask(name, value)
    if name == "arguments" and isinstance(value, list):
        return mask_options([str(word) for word in value])
    return mask_document(value)


def _texts(values: list[object]) -> object:
    return [mask_text(str(item)) for item in values]
