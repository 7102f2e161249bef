"""Read a command line by the table: argparse, with the nearest name where a word is none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from launcher.cli.command import Command
from launcher.cli.table import COMMANDS, SECTIONS

_USAGE = 2  # exit status, as argparse has it
_WIDTH = 80
_COLUMN = 28  # where what a command does begins


def run_command_line(arguments: Sequence[str]) -> int:
    """Run the command that is named; print help where that is asked for."""
    name, *rest = arguments
    if name in ("-h", "--help", "help") and not rest:
        print(overview())
        return 0
    if name == "--version":
        name = "version"
    elif name == "help":
        name, rest = rest[0], ["--help"]
    command = COMMANDS.get(name)
    if command is None:
        return _refuse(name)
    if command.as_typed and rest[:1] not in (["-h"], ["--help"]):
        return command.run(argparse.Namespace(words=rest))
    try:
        options = _parser(command).parse_args(rest)
    except SystemExit as end:  # after --help, or a word that is none
        return int(end.code or 0)
    return command.run(options)


def overview() -> str:
    """Return what `launcher --help` prints."""
    lines = ["usage: launcher COMMAND [ARGUMENT …]"]
    for section in SECTIONS:
        lines += ["", *([section.title] if section.title else [])]
        lines += map(_row, section.commands)
    return "\n".join(
        [*lines, "", "launcher COMMAND --help says more.  Settings are environment variables:",
         "launcher settings."]
    )  # fmt: skip


def _row(command: Command) -> str:
    left = f"  {command.name} {command.shown}".rstrip()
    return f"{left:<{_COLUMN - 1}} {command.help}"


def _refuse(name: str) -> int:
    print(
        f"launcher: there is no command {name!r}{nearest(name, COMMANDS)}\n\n{overview()}",
        file=sys.stderr,
    )
    return _USAGE


def nearest(word: str, words: Iterable[str]) -> str:
    """Return "; did you mean: …?" where one of `words` is near, else ""."""
    import difflib  # for a word that is none

    found = difflib.get_close_matches(word[:80], list(words), n=1)
    return f"; did you mean: {found[0]}?" if found else ""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in a line of ours, with the nearest option."""

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0]
        known = [name for action in self._actions for name in action.option_strings]
        hint = nearest(unknown, known) if unknown else ""
        print(f"{self.prog}: {message}{hint}", file=sys.stderr)
        print(f"usage: {self.format_usage().removeprefix('usage: ').strip()}", file=sys.stderr)
        self.exit(_USAGE)


def _parser(command: Command) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"launcher {command.name}",
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        epilog=command.description or None,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=_WIDTH),
    )
    for argument in command.arguments:
        parser.add_argument(*argument.names, help=argument.help, **argument.options)
    return parser
