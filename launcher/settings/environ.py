"""This process's environment: the only reader and writer of `os.environ`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from launcher.model import run_files
from launcher.settings import folders

# What image/ours/launcher.c puts before the name of a variable that root does not follow.
ASIDE = "LAUNCHER_SET_ASIDE_"
# Those, as they were given, and what root may have of each: None = nothing.
_SET_ASIDE = {
    name.removeprefix(ASIDE): (value, os.environ.get(name.removeprefix(ASIDE)))
    for name, value in os.environ.items()
    if name.startswith(ASIDE)
}


def own() -> dict[str, str]:
    """Return this process's environment, as it was given."""
    found = dict(os.environ)
    for name in _SET_ASIDE:
        if ASIDE + name in found:
            found[name] = found.pop(ASIDE + name)
    return found


def replace(environ: Mapping[str, str]) -> None:
    """Make `environ` this process's whole environment; what was set aside stays so."""
    os.environ.clear()
    os.environ.update(for_root(environ))
    for name, (given, _) in _SET_ASIDE.items():
        if environ.get(name) == given:
            os.environ[ASIDE + name] = given


_behind: dict[str, tuple[str, ...]] = {}


def take_options(command: str, words: Sequence[str]) -> None:
    """Keep the options of Jupyter's that the container's command is followed by.

    Not in the environment: what asks for them is who was started with them, and a token may be
    among them.
    """
    _behind[command] = tuple(words)


def behind_command() -> Mapping[str, tuple[str, ...]]:
    """Return those options, by the word of the command that they follow."""
    return _behind


_started_in = [""]


def take_folder(path: str) -> None:
    """Keep the folder that the container was started in: PID 1 leaves it."""
    _started_in[0] = path


def started_in() -> str:
    """Return the folder that the container was started in, "" where nobody has asked for one.

    The image's own is /workspace.
    """
    path = _started_in[0]
    return "" if path in ("/", "/workspace") else path


def unquoted(text: str) -> str:
    """Take off white space, and quotes around a whole value: `docker run --env-file` keeps them.

    Not where the same quote stands inside: such a value is more than one that was quoted.
    """
    text = text.strip()
    quote = text[:1]
    whole = len(text) > 1 and quote in ("'", '"') and text[-1] == quote
    return text[1:-1].strip() if whole and quote not in text[1:-1] else text


def set_aside() -> tuple[str, ...]:
    """Return the variables that name what others than root can change, so not for root."""
    return tuple(_SET_ASIDE)


def for_root(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a program of root's gets of `environ`: nothing of what was set aside."""
    found = dict(environ)
    for name, (given, safe) in _SET_ASIDE.items():
        if found.get(name) != given:
            continue
        del found[name]
        if safe is not None:
            found[name] = safe
    return found


def as_given(environ: Mapping[str, str]) -> dict[str, str]:
    """Undo `for_root`, but for what a program of root's has set itself."""
    found = dict(environ)
    for name, (given, safe) in _SET_ASIDE.items():
        if found.get(name) == safe:
            found[name] = given
    return found


def run_dir() -> str:
    """Return where this run's files are, without judging any other setting.

    root's, where root runs the box: a user is then told to ask with sudo.  Raises BadSetting for
    root where others can change it: root would do what their files say.
    """
    named = unquoted(os.environ.get("LAUNCHER_RUN_DIR", ""))
    of_root = os.path.exists(f"{folders.RUN}/{run_files.PLAN}")
    path = named or (folders.RUN if of_root else folders.running_dir())
    folders.check_run_dir(path)
    return path


def wants_color(environ: Mapping[str, str], terminal: bool) -> bool:
    """Return whether to paint: NO_COLOR and FORCE_COLOR decide (no-color.org, force-color.org).

    Args:
        terminal: what is written to is one.
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return environ["FORCE_COLOR"] != "0"
    return terminal and environ.get("TERM") != "dumb"
