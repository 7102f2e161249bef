"""Command mode: the user's command as the box's only program."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping

from launcher.model import command_names
from launcher.process.become import be_killed_first
from launcher.process.fork import end_with, fork
from launcher.process.init import Init, exit_code
from launcher.process.tree import kill

# A terminal sends these to everything in its foreground: the command's whole group gets them.
# The others are the command's alone: to save at TERM, a training needs its DataLoader workers.
_FROM_A_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH, signal.SIGCONT}


def run_command(
    box: Init, argv: list[str], env: Mapping[str, str], drop: Callable[[], None]
) -> int:
    """Run the user's command as the box's only program; return the box's exit code.

    The command gets a process group of its own and the terminal: in ours, Ctrl-C would
    arrive twice, and with setsid job control would be gone.
    """
    terminal = os.isatty(0)
    me = os.getpid()
    pid = fork(lambda: _exec_command(argv, env, drop, terminal, me), core=True)
    _set_group(pid)
    # INT is the command's own affair: it may save at it, and go on.
    status = box.run_until_end(pid, lambda number: _forward(pid, number), {signal.SIGTERM})
    box.end_stragglers()
    return exit_code(status)


def _exec_command(
    argv: list[str],
    env: Mapping[str, str],
    drop: Callable[[], None],
    terminal: bool,
    parent: int,
) -> int:
    """Become the command; return only where that fails, with the shell's code for it."""
    try:
        os.setpgid(0, 0)
        if terminal:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # or taking the terminal stops us
            os.tcsetpgrp(0, os.getpgrp())
            signal.signal(signal.SIGTTOU, signal.SIG_DFL)
        be_killed_first()
        drop()
        # After the change of user, which undoes it; PID 1's end is everybody's in a container.
        if parent != 1 and not end_with(parent):
            os.kill(os.getpid(), signal.SIGKILL)
        os.execvpe(argv[0], argv, dict(env))
    except (FileNotFoundError, ValueError):  # ValueError: an empty name
        os.write(2, f"launcher: cannot run {argv[0]!r}: {_why_not_found(argv[0])}\n".encode())
        return 127
    except OSError as err:
        os.write(2, f"launcher: cannot run {argv[0]!r}: {err.strerror}\n".encode())
        return 126


def _why_not_found(name: str) -> str:
    """Say what was not found: the command, or the program that a script's first line names."""
    if os.path.isfile(name):
        return (
            "it is there, and the program in its first line is not, or that line ends as on "
            "Windows: sed -i 's/\\r$//' FILE"
        )
    if name.startswith("-"):
        return (
            "it is an option and no program: options of the engine stand before the image, and "
            "those of Jupyter behind a word: IMAGE services --debug"
        )
    meant = f"; did you mean: launcher {name}?" if name in command_names.NAMES else ""
    return f"not found{meant}"


def _set_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # by both sides, so that neither has to wait for the other


def _forward(pid: int, number: int) -> None:
    if number == signal.SIGTSTP:
        return  # as PID 1 we would be immune; a stopped box helps nobody
    kill(-pid if number in _FROM_A_TERMINAL else pid, number)
