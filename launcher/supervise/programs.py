"""What supervise knows of each program, for whoever asks: programs.json in this run's directory.

supervise writes it at every change of a program's state; watch and `launcher status` read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from launcher.model import run_files
from launcher.model.named_tuple import NamedTuple


class Program(NamedTuple):
    """One program, by its name in supervisord.conf or supervisor.d."""

    group: str  # supervisor's; "box" is ours
    state: str  # starting | running | waiting | stopping | stopped | ended | failed
    pid: int  # 0 = does not run
    since: float  # CLOCK_MONOTONIC of the last change of state, seconds
    starts: int  # how often it was started since the box was
    end: str | None  # how it ended last: "exit status 1", "killed by SIGKILL"; None = never
    required: bool  # the box ends when it fails for good


def to_json(programs: Mapping[str, Program]) -> str:
    return json.dumps({name: program._asdict() for name, program in programs.items()})


def read_programs(run_dir: str) -> Mapping[str, Program]:
    """Return every program by name; none where supervise has written nothing that can be read."""
    try:
        with open(f"{run_dir}/{run_files.PROGRAMS}", encoding="utf-8") as stream:
            return {name: Program(**fields) for name, fields in json.load(stream).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
