"""Whole containers of one image, in turns, from the moment that the engine says it started them.

    python -m bench containers

The launcher beside `jupyter lab` alone and two start scripts of the usual shapes, with the same
packages: one that starts sshd and Jupyter and sleeps, and one that becomes Jupyter below an init.
It runs where the container tests run, which is why it runs only when it is named.
"""

from __future__ import annotations

import datetime
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.layout import TOKEN, Layout
from bench.processes import anonymous_megabytes
from bench.stopwatch import TICK, Endpoint
from testing.container import image as project_image
from testing.container.box import Box, Boxes, boxes
from testing.container.engine import DOCKER, running_engine

_LAB = (
    "jupyter", "lab", "--no-browser", "--allow-root", "--ip=0.0.0.0", "--port=8888",
    f"--IdentityProvider.token={TOKEN}",
)  # fmt: skip
# Host keys, sshd, Jupyter without waiting for it, and a shell that stays: what a rented box runs.
_SEQUENTIAL = f"""
ssh-keygen -A > /dev/null
mkdir -p /run/sshd && /usr/sbin/sshd
env > /etc/environment
echo started
nohup {" ".join(_LAB)} > /jupyter.log 2>&1 &
sleep infinity
"""
# Hooks, if there are any, and then Jupyter in the script's place: what a stack of images runs.
_BECOMES = f"""
for hook in /usr/local/bin/before-notebook.d/*.sh; do [ -e "$hook" ] && . "$hook"; done
echo started
exec {" ".join(_LAB)}
"""
_SETTLE = 10.0  # seconds, until memory is read
_PATIENCE = 90.0


class Contender(NamedTuple):
    """One way to start the image."""

    title: str
    options: tuple[str, ...]
    command: tuple[str, ...]
    has_ssh: bool


CONTENDERS = (
    Contender("ours", ("--env", f"JUPYTER_TOKEN={TOKEN}"), (), True),
    Contender("jupyter lab alone", ("--user", "dev", "--entrypoint", _LAB[0]), _LAB[1:], False),
    Contender("sshd, nohup, sleep", ("--entrypoint", "bash"), ("-c", _SEQUENTIAL), True),
    Contender(
        "init, then Jupyter",
        ("--init", "--user", "dev", "--entrypoint", "bash"), ("-c", _BECOMES), False,
    ),
)  # fmt: skip
COLUMNS = ("first line", "SSH", "Jupyter", "memory", "stop", "exit")
_UNITS = {"memory": "MB", "exit": ""}

Values = dict[str, list[float]]


def table(layout: Layout, rounds: int) -> str:
    """Start each contender in turns; return an aligned table of medians, lowest and highest."""
    measured: dict[str, Values] = {each.title: defaultdict(list) for each in CONTENDERS}
    commands: Values = defaultdict(list)
    with running_engine(project_image.install_gpu_hook) as docker:
        image = project_image.provide(docker)
        for number in range(rounds + 1):  # the first warms the page cache
            for contender in CONTENDERS:
                with boxes(docker, image) as start:
                    values = _measure(start, contender)
                print(f"{number or 'warm-up':>7}  {contender.title}: {values}", file=sys.stderr)
                for name, value in values.items() if number else ():
                    measured[contender.title][name].append(value)
            for title, options in _COMMANDS.items():
                taken = _run_true(docker.environment, image, options)
                if number:
                    commands[title].append(taken)
    rows = [["containers, from StartedAt", *COLUMNS]]
    rows += [
        [title, *(_cell(values.get(name, []), _UNITS.get(name, "s")) for name in COLUMNS)]
        for title, values in measured.items()
    ]
    return "\n".join([*_aligned(rows), "", *_command_rows(commands)])


def _measure(start: Boxes, contender: Contender) -> dict[str, float]:
    box = start("--gpus", "all", *contender.options, command=contender.command)
    address = box.inspect("{{.NetworkSettings.IPAddress}}")
    asked = {
        "Jupyter": Endpoint(
            8888, b"GET /api HTTP/1.0\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200", TICK, address
        )
    }
    if contender.has_ssh:
        asked["SSH"] = Endpoint(22, b"", b"SSH-2.0", TICK, address)
    _wait_for(asked, box)
    began = _epoch(box.state()["StartedAt"]) - (time.time() - time.monotonic())
    values = {name: (each.answered or 0.0) - began for name, each in asked.items()}
    if (line := _first_line(box)) is not None:
        values["first line"] = line - _epoch(box.state()["StartedAt"])
    time.sleep(_SETTLE)
    values["memory"] = anonymous_megabytes(_pids(box))
    values["stop"] = box.stop()
    return {**values, "exit": box.exit_code()}


def _wait_for(asked: dict[str, Endpoint], box: Box) -> None:
    deadline = time.monotonic() + _PATIENCE
    while any(each.answered is None for each in asked.values()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"it did not get there:\n{box.logs()}")
        for each in asked.values():
            each.look()
        time.sleep(TICK)


def _first_line(box: Box) -> float | None:
    """Return when the engine read the first line of the log; None where there is none."""
    lines = box.docker("logs", "--timestamps", box.name, check=False)
    stamps = sorted(line.split()[0] for line in (lines.stdout + lines.stderr).splitlines() if line)
    return _epoch(stamps[0]) if stamps else None


def _epoch(stamp: str) -> float:
    """Return seconds since 1970 of an RFC 3339 time with up to nine digits of a second."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    seconds = datetime.datetime.fromisoformat(f"{whole}+00:00").timestamp()
    return seconds + float(f"0.{fraction or 0}")


def _pids(box: Box) -> list[int]:
    """Return the processes of the container, as this machine numbers them."""
    listed = box.docker("top", box.name, "-eo", "pid").stdout.split()[1:]
    return [int(pid) for pid in listed if Path(f"/proc/{pid}").exists()]


# --- command mode ----------------------------------------------------------------------------

_COMMANDS = {
    "docker run IMAGE true": (),
    "the same with --entrypoint true": ("--entrypoint", "true"),
}


def _run_true(environ: object, image: str, options: Sequence[str]) -> float:
    command = ["true"] if not options else []
    began = time.monotonic()
    subprocess.run(
        [DOCKER, "run", "--rm", "--gpus", "all", *options, image, *command],
        env=dict(environ),  # type: ignore[call-overload]
        capture_output=True,
        check=True,
    )
    return time.monotonic() - began


def _command_rows(commands: Values) -> list[str]:
    rows = [[title, _cell(values, "s")] for title, values in commands.items()]
    medians = [statistics.median(values) for values in commands.values()]
    return [*_aligned(rows), f"what ours adds: {medians[0] - medians[1]:.2f} s"]


# --- as text ---------------------------------------------------------------------------------


def _cell(values: Sequence[float], unit: str) -> str:
    if not values:
        return "–"
    digits = 2 if unit == "s" else 0
    shown = [
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    ]
    return f"{shown[0]} {unit}".rstrip() + ("" if unit == "" else f" ({shown[1]} … {shown[2]})")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
