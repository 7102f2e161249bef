"""What a node's plan costs in jobs of 1 to 10,000 nodes: reading its place, choosing arguments.

The list of nodes is Slurm's, as ranges and with every name written out, which is the worst case.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc

from bench.layout import Layout
from launcher.cluster.job import find_job
from launcher.cluster.options import read_words
from launcher.cluster.place import Surroundings
from launcher.cluster.rendezvous import Choice, Reach, choose_arguments
from launcher.detect.torchrun import find_torchrun

COUNTS = (1, 100, 10_000)
_MOST = 0.050  # seconds
_PROCESSES = Choice("--nproc-per-node", "8", "measured")


def table(layout: Layout, rounds: int) -> str:
    """Measure, and return an aligned table of medians."""
    rows = ["nodes    ranges   memory      names   memory   ≤ 50 ms"]
    for count in COUNTS:
        cells, slowest = "", 0.0
        for listed in (f"gpu[1-{count}]", ",".join(f"gpu{n}" for n in range(1, count + 1))):
            environ = _environ(count, listed)
            taken = statistics.median(_plan(environ)[0] for _ in range(max(3, rounds)))
            slowest = max(slowest, taken)
            cells += f"{1000 * taken:>7.2f} ms{_memory(environ) / 1024:>6.0f} KiB"
        rows.append(f"{count:>6}{cells}{'yes' if slowest <= _MOST else 'NO':>10}")
    return "\n".join(rows)


def _environ(count: int, listed: str) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "1", "SLURM_STEP_NUM_NODES": str(count), "SLURM_NODEID": str(count - 1),
        "SLURM_STEP_NUM_TASKS": str(count), "SLURM_STEP_NODELIST": listed,
    }  # fmt: skip


def _plan(environ: dict[str, str]) -> tuple[float, int]:
    known = find_torchrun({"PATH": ""}, "/nonexistent").options
    began = time.perf_counter()
    given = read_words(["train.py"], known, environ).given
    job = find_job(given, Surroundings(environ, "gpu1"), 8)
    arguments = choose_arguments(job, given, _PROCESSES, Reach())
    return time.perf_counter() - began, len(arguments)


def _memory(environ: dict[str, str]) -> int:
    """Return the most bytes that the plan takes beside its input."""
    tracemalloc.start()
    try:
        _plan(environ)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
