"""What topology costs: reading it, choosing by it, and the first line, for 1, 4, 8 and 16 GPUs.

The machine is a simulated DGX-2: 16 GPUs that are all connected alike, which is the worst case for
choosing, since no set can be left out early.
"""

from __future__ import annotations

import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from bench.contenders import CONTENDERS
from bench.layout import Layout, with_machine
from bench.stopwatch import Run
from launcher.gpus.selection import best_set
from launcher.gpus.topology import pair_table, strength
from launcher.model.machine import Gpu, Pair
from sim import description
from testing import printed, topologies
from testing.values import replace

COUNTS = (1, 4, 8, 16)
_SIXTEEN = "dgx2-v100-16x-nv6.partial"
_READ = """\
import time
from launcher.detect import nvml
began = time.perf_counter()
report = nvml.read_report()
assert len(report.gpus) == {count}, report
print(time.perf_counter() - began)
"""


def table(layout: Layout, rounds: int) -> str:
    """Measure, and return an aligned table of medians."""
    text = topologies.describe(printed.matrices()[_SIXTEEN])
    rows = ["GPUs   read NVML   choose half   every set tried   exec → first line"]
    for count in COUNTS:
        machine = layout.root / f"{count}.machine"
        machine.write_text(description.select(text, dict.fromkeys(range(count))))
        (report,) = topologies.read_machines([machine])
        half = max(1, count // 2)
        pairs = pair_table(report)
        read = [_read(layout, machine, count) for _ in range(rounds)]
        chosen = _time(partial(best_set, report.gpus, pairs, half), rounds)
        tried = _time(partial(_try_every_set, report.gpus, pairs, half), 1)
        line = [_first_line(layout, machine) for _ in range(rounds)]
        cells = [f"{1000 * statistics.median(values):.1f} ms" for values in (read, chosen, tried)]
        first = f"{statistics.median(line):.3f} s"
        rows.append(f"{count:>4}{cells[0]:>12}{cells[1]:>14}{cells[2]:>18}{first:>20}")
    return "\n".join(rows)


def _time(work: Callable[[], object], rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return taken


def _read(layout: Layout, machine: Path, count: int) -> float:
    """Return the seconds that reading everything from NVML takes, pynvml's import not counted."""
    done = subprocess.run(
        [sys.executable, "-c", _READ.format(count=count)],
        env=with_machine(dict(layout.environ), str(machine)),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _first_line(layout: Layout, machine: Path) -> float:
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        start = CONTENDERS["ours"](layout, Path(folder))
        run = Run(replace(start, environ=with_machine(dict(start.environ), str(machine))))
        try:
            run.wait_for(lambda: bool(run.lines))
        finally:
            run.stop()
        return run.seconds_to_first_line()


def _try_every_set(
    gpus: Sequence[Gpu], pairs: Mapping[tuple[int, int], Pair], size: int
) -> tuple[Gpu, ...]:
    """Return the best set the slow way: the first three of the documented criteria of each."""

    def worth(members: tuple[Gpu, ...]) -> tuple[int, int, int]:
        inside = [pairs[a.index, b.index] for a, b in itertools.combinations(members, 2)]
        nodes = sum(a.numa_node == b.numa_node for a, b in itertools.combinations(members, 2))
        links = [strength(pair) for pair in inside]
        return min(links, default=0), sum(links), nodes

    return max(itertools.combinations(gpus, size), key=worth)
