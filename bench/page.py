"""How fast Jupyter answers while the page about the box is open, whatever the driver does.

python -m bench page
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from bench.contenders import CONTENDERS
from bench.layout import Layout, with_machine
from bench.scenarios import request, wait_until_up
from bench.stopwatch import Run
from sim import driver
from testing.busy import BUSY
from testing.values import replace

_MOST = 0.050  # seconds
_SECONDS = 10.0  # of each round; a driver that hangs is known after seven
_EVERY = 0.05  # seconds between two requests
_PATH, _GPUS = "/api", "/launcher/api/gpus"
# What page.js asks for when it is opened, and then again and again: path → every so many seconds.
_ASKED = {"/launcher/api/metrics": 16.0, _GPUS: 2.0}
_COMMANDS = ("/launcher/api/topo", "/launcher/api/status")  # as costly as what it draws at first

Changes = Mapping[str, Mapping[str, str | None]]


class Row(NamedTuple):
    """What is measured."""

    title: str
    contender: str = "ours"
    changes: Changes | None = None
    open: bool = True


def _fault(does: str) -> Changes:
    """Return what makes the driver do that when the page's sampler asks, and nobody else."""
    return {"gpu *": BUSY, "faults": {"nvmlDeviceGetUtilizationRates": does}}


ROWS = (
    Row("bare jupyter lab", "bare", open=False),
    Row("nobody looks", open=False),
    Row("8 busy GPUs", changes={"gpu *": BUSY}),
    Row("a GPU is lost", changes={"gpu *": BUSY, "gpu 3": {"state": "lost"}}),
    Row("the driver hangs", changes=_fault("hang")),
    Row("the driver crashes", changes=_fault("crash")),
)


def table(layout: Layout, rounds: int) -> str:
    """Measure each row so many times; return an aligned table."""
    rows = ["while the page is open       /api: median   99 of 100      worst   api/gpus   ≤ 50 ms"]
    for row in ROWS:
        took, looked = _measure(layout, row, rounds)
        low, worst = statistics.median(took), max(took)
        most = statistics.quantiles(took, n=100)[-1]
        shown = f"{1000 * statistics.median(looked):.1f} ms" if looked else "–"
        rows.append(
            f"{row.title:<27}{1000 * low:>13.1f} ms{1000 * most:>9.1f} ms{1000 * worst:>8.1f} ms"
            f"{shown:>11}{'yes' if most <= _MOST else 'NO':>10}"
        )
    return "\n".join(rows)


def _measure(layout: Layout, row: Row, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds that each request took: of Jupyter's own, and of those about the GPUs."""
    took: list[float] = []
    looked: list[float] = []
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        start = CONTENDERS[row.contender](layout, Path(folder))
        if row.changes:
            machine = driver.vary("h100-8x", row.changes, Path(folder) / "varied.machine")
            start = replace(start, environ=with_machine(dict(start.environ), str(machine)))
        run = Run(start)
        try:
            wait_until_up(run)
            run.read_for(_SECONDS)  # what the start has left is done by then
            with _page(run, looked) if row.open else nullcontext():
                until = time.monotonic() + rounds * _SECONDS
                while time.monotonic() < until:
                    took.append(_time(run, _PATH))
                    run.read_for(_EVERY)
        finally:
            run.stop()
    return took, looked


@contextmanager
def _page(run: Run, looked: list[float]) -> Iterator[None]:
    """Ask as an open page does; its first requests, which start commands, come first."""
    end = threading.Event()

    def look() -> None:
        for path in _COMMANDS:
            request(run, "GET", path)
        due = dict.fromkeys(_ASKED, 0.0)
        while not end.is_set():
            for path, every in _ASKED.items():
                if time.monotonic() >= due[path]:
                    due[path] = time.monotonic() + every
                    took = _time(run, path)
                    if path == _GPUS:
                        looked.append(took)
            end.wait(0.1)

    page = threading.Thread(target=look, daemon=True)
    page.start()
    try:
        yield
    finally:
        end.set()
        page.join(60)


def _time(run: Run, path: str) -> float:
    began = time.perf_counter()
    request(run, "GET", path)
    return time.perf_counter() - began
