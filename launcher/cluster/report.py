"""What `launcher torchrun --dry-run` prints.  Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from launcher.cluster import values
from launcher.cluster.rendezvous import Choice
from launcher.cluster.torchrun import Command
from launcher.model.printable import printable

_WIDTH = 80
_LONGEST = 200  # characters of a value; the command, and --json, have all of it


def title(command: Command) -> str:
    """Return the one line that precedes the run."""
    job, processes = command.node.job, command.node.processes
    each = f"{processes} process{'es' if processes > 1 else ''}"
    if job.nodes == 1:
        return f"torchrun on this machine: {each}"
    number = "a node" if job.rank is None else f"node {job.rank}"
    count = f"{job.least} to {job.nodes}" if job.is_elastic else str(job.nodes)
    who = f" ({job.platform})" if job.platform else ""
    return f"torchrun on {number} of {count}{who}: {each}, master {job.master}:{job.port}"


def as_text(command: Command) -> str:
    """Return every argument and variable with its reason, then the command."""
    parts = [printable(title(command))]
    for heading, choices in (
        ("arguments", command.arguments), ("variables", command.variables),
        ("left as they are", command.kept),
    ):  # fmt: skip
        if choices:
            parts += ["", heading, *_rows(choices)]
    for note in command.notes:
        parts += [
            "",
            *textwrap.wrap(printable(note), _WIDTH, initial_indent="! ", subsequent_indent="  "),
        ]
    return "\n".join([*parts, "", command.shown])


def _rows(choices: Sequence[Choice]) -> Iterator[str]:
    words = [printable(values.cut(one.word, _LONGEST)) for one in choices]
    width = min(36, max(map(len, words)))
    for word, one in zip(words, choices, strict=True):
        lines = textwrap.wrap(printable(one.why), _WIDTH - width - 4) or [""]
        first = f"  {word:<{width}}  "
        if len(word) > width:
            yield first.rstrip()
            first = " " * (width + 4)
        yield f"{first}{lines[0]}".rstrip()
        yield from (f"{'':{width + 4}}{line}" for line in lines[1:])


def as_data(command: Command) -> dict[str, object]:
    """Return the same for programs."""
    job = command.node.job
    return {
        "argv": list(command.argv),
        "node": job.rank,
        "nodes": [job.least, job.nodes],
        "processes": command.node.processes,
        "master": job.master,
        "port": job.port if job.nodes > 1 else None,
        "platform": job.platform or None,
        "arguments": [one._asdict() for one in command.arguments],
        "variables": [one._asdict() for one in command.variables],
        "kept": [one._asdict() for one in command.kept],
        "notes": list(command.notes),
    }
