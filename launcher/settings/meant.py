"""What the command of a container means: people bring those of other images along.  Pure.

    start-notebook.py|.sh ARGS, start-singleuser.py|.sh ARGS    Jupyter Docker Stacks
    start.sh CMD                                                the same
    /start.sh                                                   RunPod
    /init, /init CMD                                            s6-overlay: Kubeflow, linuxserver.io
    services ARGS                                               ours: the image's own command

ARGS are options of Jupyter's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from launcher.model.named_tuple import NamedTuple

SERVICES = "services"  # the image's CMD: a list that spawners can append to
_JUPYTER = ("start-notebook.py", "start-notebook.sh", "start-singleuser.py", "start-singleuser.sh")
_WRAPPERS = ("start.sh", "init")  # what follows them is the command
NAMES = (*_JUPYTER, *_WRAPPERS)  # image/ours/launcher.c has them, too


class Meant(NamedTuple):
    """What is to run."""

    command: tuple[str, ...]  # empty: none but the services
    options: tuple[str, ...] = ()  # of Jupyter's, where it is a service
    services: bool = True
    name: str = ""  # of the command that the options follow


def understand(argv: Sequence[str], environ: Mapping[str, str]) -> Meant:
    """Return what a container's command means here."""
    words = list(argv)
    while words and _is_wrapper(words[0]):
        name = words.pop(0)
        if words and _base(name) == "init" and words[0] == "--":
            words.pop(0)
        if not words and name == "start.sh":  # the Docker Stacks' own, without a command
            words = ["bash"]
    if not words:
        return Meant(())
    name = _base(words[0])
    if words[0] == SERVICES or name in _JUPYTER:
        options = tuple(word for word in words[1:] if word)
        if any(option in _NOT_A_SERVER for option in options):  # it prints, and ends
            return Meant(("jupyter", "lab", *options), services=False)
        return Meant((), options, name=name if options else "")
    beside = environ.get("LAUNCHER_WITH_COMMAND", "").strip().strip("'\"") == SERVICES
    return Meant(tuple(words), services=beside)


def _base(word: str) -> str:
    return word.rpartition("/")[2]


def _is_wrapper(word: str) -> bool:
    """Return whether `word` is one of ours, and not somebody's ./start.sh."""
    return word in ("start.sh", "/usr/local/bin/start.sh", "/start.sh", "/init")


# --- a command that does nothing ---------------------------------------------------------------

_IDLE = r"(?:sleep\s+(?:inf(?:inity)?|\d{5,}s?|\d+d)|tail\s+-[fF]\s+/dev/null)"
_AT_THE_END = rf"(?:^|[;&|\n({{])\s*(?:exec\s+)?{_IDLE}\s*[;&)}}]*\s*(?:wait\b.*)?$"
_LOOP = r"\bwhile\s+(?:true|:|sleep\b)[^\n]*;?\s*do\b.*\bdone\s*;?\s*$"
_SHELLS = ("sh", "bash", "dash", "ash", "zsh")


def keeps_alive(command: Sequence[str]) -> bool:
    """Return whether a command only keeps the container alive, or ends in doing so."""
    if not command:
        return False
    import shlex

    line = shlex.join((_base(command[0]), *command[1:]))
    if _base(command[0]) in _SHELLS:
        scripts = [word for word in command[1:] if not word.startswith("-")]
        options = [word for word in command[1:] if word.startswith("-") and "c" in word]
        if not options or not scripts:
            return False
        line = scripts[0]
    return bool(re.search(_AT_THE_END, line.strip()) or re.search(_LOOP, line, re.DOTALL))


# --- `jupyter lab` as the command ----------------------------------------------------------------

_SERVERS = ("lab", "notebook", "nbclassic", "server")
_PROGRAMS = tuple(f"jupyter-{name}" for name in _SERVERS)
_MODULES = ("jupyterlab", "notebook", "nbclassic", "jupyter_server")
_NOT_A_SERVER = ("-h", "--help", "--help-all", "--version", "--generate-config", "--show-config")
# What stands first behind `jupyter lab` and its kin and is no folder or notebook to open.
_SUBCOMMANDS = (
    "build", "clean", "extension", "licenses", "list", "password", "path", "paths", "stop",
    "workspace", "workspaces",
)  # fmt: skip
# The last command of a shell's line, where nothing of the shell's is in it.
_LAST = r"(?:^|[;&|\n])\s*(?:exec\s+)?([^;&|\n(){}<>$`]+?)\s*;?\s*$"


def reachable(command: Sequence[str], as_root: bool) -> tuple[str, ...]:
    """Return a command that starts Jupyter, with the options without which nobody could open it.

    Jupyter listens on the container's own 127.0.0.1 unless it is told otherwise, and refuses to
    run as root.  Every other command stays as it is.
    """
    words = tuple(command)
    if _has_line(words):
        import shlex  # where it is needed: PID 1 is in a hurry

        more = shlex.join(_missing(_last_of(words[2]), as_root))
        return (*words[:2], f"{words[2].rstrip(' ;')} {more}", *words[3:]) if more else words
    return (*words, *_missing(words, as_root))


def _has_line(words: tuple[str, ...]) -> bool:
    """Return whether it is a shell with a line to run, its third word."""
    return len(words) > 2 and _base(words[0]) in _SHELLS and _is_script(words[1])


def _is_script(option: str) -> bool:
    """Return whether a shell's option says that a line follows: -c, -lc."""
    return option.startswith("-") and not option.startswith("--") and option.endswith("c")


def _last_of(line: str) -> tuple[str, ...]:
    """Return the words of a shell line's last command; none where that is not plain."""
    import shlex

    found = re.search(_LAST, line)
    try:
        return tuple(shlex.split(found[1])) if found else ()
    except ValueError:  # a quote begins before it
        return ()


def _missing(words: tuple[str, ...], as_root: bool) -> tuple[str, ...]:
    """Return the options that a command of Jupyter's lacks."""
    options = _options_of_a_server(words)
    if options is None or any(option in _NOT_A_SERVER for option in options):
        return ()
    names = {option.partition("=")[0].rpartition(".")[2].lstrip("-") for option in options}
    listen = () if names & {"ip", "sock"} or _is_unguarded(options) else ("--ip=*",)
    root = ("--allow-root",) if as_root and not names & {"allow-root", "allow_root"} else ()
    browser = () if names & {"no-browser", "browser", "open_browser"} else ("--no-browser",)
    return (*listen, *root, *browser)


def is_unguarded(command: Sequence[str]) -> bool:
    """Return whether a command starts Jupyter for everybody, and so is left where nobody comes."""
    words = tuple(command)
    options = _options_of_a_server(_last_of(words[2]) if _has_line(words) else words)
    return options is not None and _is_unguarded(options)


def _is_unguarded(options: tuple[str, ...]) -> bool:
    """Return whether they say "no token", and no password, and not where to listen."""
    given = {}
    for option, following in zip(options, (*options[1:], ""), strict=False):
        name, equals, value = option.partition("=")
        if option.startswith("--"):
            own_name = name.rpartition(".")[2].lstrip("-")
            given[own_name] = value if equals else following
    passwords = ("password", "hashed_password")
    no_token = given.get("token") in ("", "''", '""')
    return no_token and not any(given.get(name) for name in (*passwords, "ip", "sock"))


def _options_of_a_server(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the words behind `jupyter lab`, `jupyter-lab`, `python -m jupyterlab` and such."""
    base, rest = _base(words[0]) if words else "", words[1:]
    if re.fullmatch(r"python[0-9.]*", base) and "-m" in rest:
        at = rest.index("-m")
        if any(not word.startswith("-") for word in rest[:at]) or not rest[at + 1 :]:
            return None
        base, rest = rest[at + 1], rest[at + 2 :]
        base = "jupyter-server" if base in _MODULES else base
    if base == "jupyter" and rest and rest[0] in _SERVERS:
        base, rest = f"jupyter-{rest[0]}", rest[1:]
    if base not in _PROGRAMS or (rest and rest[0] in _SUBCOMMANDS):
        return None
    return rest
