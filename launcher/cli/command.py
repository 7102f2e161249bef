"""What a row of the table of commands holds."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from launcher.model.named_tuple import NamedTuple


class Argument(NamedTuple):
    """A word or an option of a command, as argparse's add_argument takes it."""

    names: tuple[str, ...]
    help: str
    options: Mapping[str, Any] = {}


class Command(NamedTuple):
    """One row.  `run` is given the parsed arguments and returns the exit status."""

    name: str
    shown: str  # its arguments, in the list of commands
    help: str
    run: Callable[[Namespace], int]
    arguments: tuple[Argument, ...] = ()
    description: str = ""  # more than `help`, below `launcher NAME --help`
    as_typed: bool = False  # it reads its words itself: `words`, all but --help alone


class Section(NamedTuple):
    """What belongs together in the list."""

    title: str
    commands: tuple[Command, ...]
