"""Options of Jupyter's command line that are settings here.  Pure.

People bring them along in NOTEBOOK_ARGS, or behind a command such as start-notebook.sh.  Left to
Jupyter, the printed URL, the readiness and the health would look elsewhere, and a token on a
command line is everybody's to read.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from launcher.model.named_tuple import NamedTuple

# What is right of the class in --ServerApp.port=1, and the field of `Settings` that it is.
_FIELDS: Mapping[str, str] = {
    "port": "jupyter_port",
    "ip": "listen",
    "base_url": "jupyter_base_url",
    "token": "jupyter_token",
    "allow_origin": "allow_origin",
    "root_dir": "workspace",
    "notebook_dir": "workspace",
    "certfile": "tls_cert",
    "keyfile": "tls_key",
}
# Classes that have them, of all versions of Jupyter; "" is an alias, as --port.
_CLASSES = ("", "ServerApp", "NotebookApp", "LabApp", "IdentityProvider", "SingleUserNotebookApp")
_EVERY_ADDRESS = ("0.0.0.0", "::", "*")  # what the box listens on anyway


# A dict or a list as Open Data Hub's controller writes one: --ServerApp.x={"user":"me"}.  Its own
# image splits at white space alone, so the quotes in there are the value's and not a shell's.
_AS_IT_IS = r"(?!\S*\\)-[\w.-]+=(?:\{\S*\}|\[\S*\])(?!\S)"
_WORD = r"""(?s)(?:[^\s'"\\]|\\.|'[^']*'|"(?:[^"\\]|\\.)*")+"""
_SPACE = r"\s*"


class Taken(NamedTuple):
    """What of some options is a setting, and the rest."""

    settings: Mapping[str, tuple[tuple[str, str], ...]]  # field -> (option, its value) …
    rest: tuple[str, ...]
    no_token: bool  # an empty token: "let everybody in"


class Given(NamedTuple):
    """Options that were given, with what they came by: that is what a message names.

    A variable of the container's (NOTEBOOK_ARGS), or the word of its command that they stood
    behind (start-notebook.py).
    """

    name: str
    taken: Taken


def add(
    field: str,
    parse: Callable[[str], object],
    said: dict[str, str],
    options: Sequence[Given],
    unfilled: Callable[[str, str], bool],
) -> Iterator[str]:
    """Let options say what is a setting; yield where they contradict it.

    Args:
        field: of the setting; `parse` reads its text.
        said: what says something of it so far, the name that counts first.
        unfilled: whether a name and its text say nothing: a template's placeholder.
    """
    for one in options:
        for option, text in one.taken.settings.get(field, ()):
            name = f"{one.name} {option}"
            if unfilled(name, text):
                continue
            if not said:
                said[name] = text
                continue
            first = next(iter(said))
            if not _same(parse, text, said[first]):
                yield f"{name}=*** and {first} contradict each other: leave one of them out"


def _same(parse: Callable[[str], object], one: str, other: str) -> bool:
    try:
        return bool(parse(one) == parse(other))
    except ValueError:
        return one == other


def split(text: str) -> tuple[str, ...]:
    """Split as a shell does; dicts and lists without a quote around them stay as they are.

    Where a quote is not closed there is no word at all.
    """
    space, as_it_is, word = map(re.compile, (_SPACE, _AS_IT_IS, _WORD))
    words: list[str] = []
    at = _end(space.match(text))
    while at < len(text):
        if found := as_it_is.match(text, at):
            words.append(found[0])
        elif found := word.match(text, at):
            words += shlex.split(found[0])
        else:
            return ()
        at = _end(space.match(text, found.end()))
    return tuple(words)


def _end(found: re.Match[str] | None) -> int:
    return found.end() if found else 0


def take(words: Sequence[str]) -> Taken:
    """Sort options into settings and what stays Jupyter's.

    One without its value stays, and so does the value of an option that we do not know.
    """
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    rest: list[str] = []
    no_token = False
    left = list(words)
    while left:
        word = left.pop(0)
        option, equals, value = word.partition("=")
        field = _field(option)
        apart = field is not None and not equals and bool(left) and not left[0].startswith("-")
        if field is None or not (equals or apart):
            rest.append(word)
            continue
        value = left.pop(0) if apart else value
        if field == "listen" and value in _EVERY_ADDRESS:
            continue
        if value:
            found[field] = (*found.get(field, ()), (option, value))
        no_token = no_token or (field == "jupyter_token" and not value)
    return Taken(found, tuple(rest), no_token)


def _field(option: str) -> str | None:
    if not option.startswith("-"):
        return None
    owner, _, name = option.lstrip("-").rpartition(".")
    return _FIELDS.get(name.replace("-", "_")) if owner in _CLASSES else None
