"""Completion for bash, made of the table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from launcher.cli.command import Argument, Command

# What a word may be, where the table does not say it: a command that prints it.
_ASKED = {
    ("explain", "what"): "launcher explain --list",
    ("doctor", "checks"): "launcher explain --list",
}
_PROGRAMS = "jupyter ssh"

_SCRIPT = """\
# bash completion for launcher
_launcher() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words={commands}
    else
        case ${{COMP_WORDS[1]}} in
{cases}
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -o default -F _launcher launcher
"""


def script(table: Mapping[str, Command]) -> str:
    """Return what `source <(launcher completion bash)` reads."""
    commands = shlex.quote(" ".join((*table, "--help", "--version")))
    cases = "\n".join(f"            {name}) words={_words(it)};;" for name, it in table.items())
    return _SCRIPT.format(commands=commands, cases=cases)


def _words(command: Command) -> str:
    fixed = ["--help", *(name for one in command.arguments for name in _of_argument(one))]
    asked = [
        _ASKED[command.name, one.names[0]]
        for one in command.arguments
        if (command.name, one.names[0]) in _ASKED
    ]
    inner = "".join(f" $({command} 2> /dev/null)" for command in asked)
    return f'"{" ".join(fixed)}{inner}"'


def _of_argument(argument: Argument) -> tuple[str, ...]:
    if argument.names[0].startswith("-"):
        return argument.names
    if argument.names[0] == "name":
        return tuple(_PROGRAMS.split())
    return tuple(argument.options.get("choices", ()))
