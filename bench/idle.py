"""A box that nobody uses, minute by minute: does anything grow?

    python -m bench idle --minutes 30

It is not among what runs by default, for its length.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.contenders import CONTENDERS
from bench.layout import Layout
from bench.processes import cpu_seconds, pss_megabytes, rss_megabytes, with_descendants
from bench.scenarios import SETTLE_SECONDS, wait_until_up
from bench.stopwatch import Run

OURS = ("PID 1", "supervise", "watch")
_SERVICES = ("jupyter", "sshd")
# Until then caches fill, and the children of the start end.
WARM_MINUTES = 2
MOST_GROWTH_MB = 1.0  # of ours together, from then to the end
# In RSS: what others on the machine start and end shares pages with ours, and changes their PSS.


@dataclass(frozen=True)
class Sample:
    """What the processes of one role have, at one time."""

    pss: float  # MB
    rss: float  # MB
    fds: int
    threads: int
    processes: int
    cpu: float  # seconds, since they began

    @staticmethod
    def of(pids: list[int]) -> Sample:
        return Sample(
            pss=pss_megabytes(pids),
            rss=rss_megabytes(pids),
            fds=sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),
            threads=sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids),
            processes=len(pids),
            cpu=cpu_seconds(pids),
        )


Samples = dict[str, Sample]  # by role


def table(layout: Layout, minutes: int) -> str:
    """Watch an idle box for so many minutes; return what it had at first and at last."""
    return "\n".join(_report(watch(layout, minutes)))


def watch(layout: Layout, minutes: int) -> list[Samples]:
    """Return a sample of each minute, the one before the first included."""
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        run = Run(CONTENDERS["ours"](layout, Path(folder)))
        try:
            wait_until_up(run)
            run.read_for(SETTLE_SECONDS)
            began = time.monotonic()
            samples = [_sample(run.pid)]
            for minute in range(1, minutes + 1):
                run.read_for(began + 60 * minute - time.monotonic())
                samples.append(_sample(run.pid))
        finally:
            run.stop()
    return samples


def _sample(top: int) -> Samples:
    roles: dict[str, list[int]] = defaultdict(list)
    for pid in with_descendants(top):
        roles[_role(pid, top)].append(pid)
    return {role: Sample.of(pids) for role, pids in sorted(roles.items())}


def _role(pid: int, top: int) -> str:
    """Return what a process is part of: the nearest that says so, itself or above it."""
    while pid != top:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if service := next((s for s in _SERVICES for w in words if s in os.path.basename(w)), None):
            return service
        if "watch" in words:
            return "watch"
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        if pid == top:
            return "supervise"
    return "PID 1"


def _report(samples: list[Samples]) -> list[str]:
    warm = samples[min(WARM_MINUTES, len(samples) - 2) :]
    hours = (len(warm) - 1) / 60
    head = f"{'':<12} {'processes':>9} {'threads':>9} {'fds':>9} {'RSS':>15} {'PSS':>15}"
    lines = [f"idle, minute {len(samples) - len(warm)} → {len(samples) - 1}"]
    lines.append(f"{head} {'RSS an hour':>12} {'CPU':>8}")
    for role in (*OURS, *_SERVICES):
        first, last = warm[0][role], warm[-1][role]
        slope = (last.rss - first.rss) / hours
        cpu = 100 * (last.cpu - first.cpu) / (3600 * hours)
        lines.append(
            f"{role:<12} {_change(first.processes, last.processes):>9} "
            f"{_change(first.threads, last.threads):>9} {_change(first.fds, last.fds):>9} "
            f"{f'{first.rss:.1f} → {last.rss:.1f}':>15} {f'{first.pss:.1f} → {last.pss:.1f}':>15} "
            f"{slope:>+9.2f} MB {cpu:>6.2f} %"
        )
    memory = _growth(warm, lambda sample: sample.rss)
    fds = _growth(warm, lambda sample: sample.fds)
    well = memory < MOST_GROWTH_MB and fds <= 0
    lines.append(
        f"of ours: {memory:+.2f} MB (below {MOST_GROWTH_MB:g}), {fds:+.0f} file descriptors (0): "
        f"{'nothing grows' if well else 'IT GROWS'}"
    )
    return lines


def _change(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} → {last}"


def _growth(samples: list[Samples], of: Callable[[Sample], float]) -> float:
    def total(sample: Mapping[str, Sample]) -> float:
        return sum(of(sample[role]) for role in OURS)

    return total(samples[-1]) - total(samples[0])
