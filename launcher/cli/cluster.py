"""Commands about a job of many processes: torchrun as it fits."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.cli.place import for_this_place
from launcher.settings import environ

if TYPE_CHECKING:
    from launcher.cluster.torchrun import Around
    from launcher.model.job import RunningJob

_USAGE = 2  # exit status, as argparse has it


def torchrun(options: Namespace) -> int:
    """Become the user's torchrun, or say what would be run."""
    from launcher.cluster import report
    from launcher.cluster import torchrun as making
    from launcher.cluster.options import UnknownOption, read_words
    from launcher.detect.torchrun import find_torchrun

    if (status := _as_the_user(["torchrun", *options.words])) is not None:
        return status
    around = _around()
    program = find_torchrun(around.environ, around.python)
    try:
        words = read_words(options.words, program.options, around.environ)
    except UnknownOption as err:
        return _refuse(f"launcher torchrun: {err}")
    if not words.script:
        return _refuse("launcher torchrun: the script to run is missing")
    command = making.make_command(words, program, around)
    if words.dry_run:
        data = report.as_data(command)
        print(json.dumps(data, indent=2) if words.json else report.as_text(command))
        return 0
    _say(report.title(command))
    for note in command.notes:
        _say(note)
    sys.stdout.flush()
    _stand_beside(making.running(command, time.monotonic()))
    try:
        os.execve(command.argv[0], list(command.argv), dict(command.environ))
    except OSError as err:
        _say(f"cannot run {command.argv[0]!r}: {err.strerror}")
        return 126


def _stand_beside(job: RunningJob) -> None:
    """Start what stands beside the torchrun that this process becomes; without it, it runs too."""
    from launcher.detect.jobs import MODULE
    from launcher.model import codec
    from launcher.process.fork import fork

    words = [str(os.getpid()), codec.to_json(job), environ.run_dir()]
    argv = [sys.executable, "-I", "-m", MODULE, *words]

    def become() -> int:
        with contextlib.suppress(OSError):
            os.execve(argv[0], argv, {})
        return 1

    with contextlib.suppress(OSError):
        fork(become)


# Options of torchrun's that the check takes too, where no platform says it.
PLACE = ("nnodes", "node_rank", "master_addr", "master_port", "nproc_per_node", "rdzv_id")


def cluster(options: Namespace) -> int:
    """Check the job's nodes against each other; the same command on each."""
    from launcher.cluster.check import check, look, table
    from launcher.cluster.options import read_words
    from launcher.cluster.place import Said
    from launcher.detect.torchrun import find_torchrun

    if (status := _as_the_user(["cluster", *_typed(options)])) is not None:
        return status
    around = _around()
    program = find_torchrun(around.environ, around.python)
    given = dict(read_words([], program.options, around.environ).given)
    for dest in PLACE:
        if (value := getattr(options, dest)) is not None:
            given[dest] = Said(value, f"--{dest.replace('_', '-')}")
    here = look.look_around(given, program, around, options.seconds)
    outcome = check.run(here)
    rank = here.report.rank
    data = table.as_data(outcome, rank)
    said = for_this_place(table.as_text(outcome, rank))
    print(json.dumps(data, indent=2) if options.json else said)
    return outcome.status


def _typed(options: Namespace) -> list[str]:
    """Return the words again, for whom we become."""
    words = [options.what, f"--seconds={options.seconds:g}", *(["--json"] if options.json else [])]
    given = {dest: getattr(options, dest) for dest in PLACE}
    return [*words, *(f"--{d.replace('_', '-')}={v}" for d, v in given.items() if v is not None)]


def _as_the_user(arguments: Sequence[str]) -> int | None:
    """Become the workspace user first, in its environment, where root is in a box (docker exec).

    Return None where we are who we should be.
    """
    from launcher.box import run_dir
    from launcher.cli import inside

    if os.geteuid() != 0:
        return None
    plan = run_dir.read_plan()
    if plan is None or plan.identity.is_root:
        return None
    return inside.become(["--", "launcher", *arguments])


def _around() -> Around:
    from launcher.cluster.torchrun import Around
    from launcher.settings import load

    own = environ.own()
    return Around(own, load.user_python(own), own.get("HOME", ""), _say)


def _say(line: str) -> None:
    from launcher.model.printable import printable

    print(printable(f"launcher: {for_this_place(line)}"), file=sys.stderr, flush=True)


def _refuse(why: str) -> int:
    print(
        f"{why}\nusage: launcher torchrun [--dry-run] [OPTION …] SCRIPT [ARGUMENT …]",
        file=sys.stderr,
    )
    return _USAGE
