"""The two ways in: PID 1's, and the command line's.

Both stay light.  What supervise and the engine start often is told apart without argparse; of
everything else `table` says what there is, and `parser` reads it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from launcher.process.stand_ins import stand_ins, when_called

# It writes a file as a URL with it: a twentieth of all that PID 1 imports.
_URLS = "urllib.parse"
with stand_ins({_URLS: {"quote_from_bytes": when_called(_URLS, "quote_from_bytes")}}):
    import pathlib  # noqa: F401

from launcher.cli import inside  # noqa: E402
from launcher.model.errors import LauncherError, Stopped  # noqa: E402

# Ten times a minute, or on the way to the banner: argparse would take longer than they do.
_OFTEN: dict[str, Callable[[Sequence[str]], int]] = {
    "healthcheck": inside.healthcheck,
    "exec": inside.become,
    "watch": inside.watch,
    "post-start": inside.post_start,
}


def entrypoint(argv: Sequence[str], started: float) -> int:
    """Be PID 1.  Imports nothing that the way to the banner does not need.

    Args:
        started: CLOCK_MONOTONIC at the start of the process, seconds.
    """
    if argv and argv[0] in _ASKING:  # docker run IMAGE --help
        return _answer(argv)
    from launcher.pid1 import boot

    return boot.be_the_box(argv, started)


_ASKING = ("--help", "-h", "help", "--version")


def _answer(argv: Sequence[str]) -> int:
    """Say what people may run, or which version this is: without GPUs, services and settings."""
    from argparse import Namespace

    from launcher.cli import about

    return about.version(Namespace(json=False)) if argv[0] == "--version" else about.usage()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments, as_program=argv is None)
        sys.stdout.flush()  # here, and not at exit: a reader may have gone
        return status
    except LauncherError as err:
        from launcher.cli.place import for_this_place
        from launcher.model.printable import printable_text

        print(printable_text(f"launcher: {for_this_place(str(err))}"), file=sys.stderr)
        return err.exit_code
    except Stopped as stop:
        return 128 + stop.number
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains at exit
        return 1


def _run(arguments: list[str], as_program: bool) -> int:
    name, *rest = arguments or ["--help"]
    if name in _OFTEN and (name == "exec" if rest else name != "exec") and rest[:1] not in _HELP:
        return _OFTEN[name](rest)
    from launcher.cli import parser

    if as_program:
        _end_at_signals()
    if name not in _WHERE_REPLACED and (said := inside.entrypoint_replaced()):
        print(f"launcher: {said}", file=sys.stderr, flush=True)
    return parser.run_command_line(arguments or ["--help"])


def _end_at_signals() -> None:
    """End what is waited for, and go: without a word, as other programs do at Ctrl-C."""
    import signal

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


_HELP = (["-h"], ["--help"])
# What mends it, and what has nothing to do with a box.
_WHERE_REPLACED = (
    "start", "run", "completion", "version", "--version", "-h", "--help", "help", "render",
)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
