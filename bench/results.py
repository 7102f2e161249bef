"""Results as text: the table, and the machine they are true of."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from bench.layout import SYSTEM_PATH
from bench.measures import Measure

# (measure's name, contender) → what was measured, one value for each round or more
Measured = Mapping[tuple[str, str], Sequence[float]]

_HEADER = ("measure", "theirs", "ours", "(lowest … highest)", "ratio", "target", "met?")
_PACKAGES = ("jupyterlab", "jupyter_server", "ipykernel", "supervisor")


def table(measures: Sequence[Measure], measured: Measured) -> str:
    rows = [_HEADER, *(_row(measure, measured) for measure in measures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = []
    for row in rows:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first, *others]).rstrip())
    lines.insert(1, "─" * (sum(widths) + 2 * len(widths)))
    return "\n".join(lines)


def _row(measure: Measure, measured: Measured) -> tuple[str, ...]:
    ours = measured[measure.name, "ours"]
    median = statistics.median(ours)
    theirs = statistics.median(measured[measure.name, measure.beside]) if measure.beside else None
    ratio = median / theirs if theirs else None
    if measure.most is not None:
        target, met = f"≤ {measure.most:g} {measure.unit}", median <= measure.most
    elif measure.most_ratio is not None and ratio is not None:
        target, met = f"≤ {measure.most_ratio:g} × theirs", ratio <= measure.most_ratio
    else:
        target, met = "–", None
    return (
        measure.title,
        "–" if theirs is None else _quantity(theirs, measure.unit),
        _quantity(median, measure.unit),
        f"({_number(min(ours), measure.unit)} … {_number(max(ours), measure.unit)})",
        "–" if ratio is None else f"{ratio:.2f}",
        target,
        {True: "yes", False: "NO", None: "–"}[met],
    )


def _quantity(value: float, unit: str) -> str:
    return f"{_number(value, unit)} {unit}".rstrip()


def _number(value: float, unit: str) -> str:
    return f"{value:.{ {'s': 3, 'MB': 1, '%': 2, '': 0}[unit] }f}"


def machine_facts() -> str:
    with open("/proc/meminfo", encoding="ascii") as stream:
        memory = int(stream.readline().split()[1]) / (1 << 20)
    with open("/proc/cpuinfo", encoding="utf-8") as stream:
        model = next((x.split(":")[1].strip() for x in stream if x.startswith("model name")), "?")
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.split(",")[0]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    # Where there is one, JupyterLab asks it for yarn's settings at every start: some 0.35 s.
    node = "with" if shutil.which("node", path=SYSTEM_PATH) else "without"
    return (
        f"{len(os.sched_getaffinity(0))} CPUs ({model}), {memory:.1f} GiB, "
        f"Linux {platform.release()}\n"
        f"Python {sys.version.split()[0]}, {packages}, {ssh.strip()}, "
        f"{node} Node.js"
    )


def load_average() -> str:
    return "load average {:.2f} (1 min), {:.2f} (5 min)".format(*os.getloadavg())
