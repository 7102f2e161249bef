"""What a box costs as there is more of something: GPUs, keys, variables, kernels, logins.

    python -m bench growth

Start, steady memory and idle CPU of what supervises; none may grow faster than what there is more
of.  It starts up to 200 kernels, and so runs only when it is named.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.contenders import CONTENDERS, Start
from bench.layout import Layout, with_machine
from bench.processes import cpu_seconds, pss_megabytes, supervising
from bench.scenarios import SETTLE_SECONDS, request, wait_until_up
from bench.stopwatch import Run
from sim import description
from testing import printed, topologies
from testing.values import replace

_SIXTEEN = "dgx2-v100-16x-nv6.partial"
_IDLE_SECONDS = 20.0


class Cost(NamedTuple):
    """Seconds to the first line and to sshd's version, MB, and percent of one core."""

    first_line: float
    sshd: float
    memory: float
    cpu: float


def _gpus(layout: Layout, start: Start, count: int) -> Start:
    machine = layout.root / f"growth-{count}.machine"
    text = topologies.describe(printed.matrices()[_SIXTEEN])
    machine.write_text(description.select(text, dict.fromkeys(range(count))))
    return replace(start, environ=with_machine(dict(start.environ), str(machine)))


def _keys(layout: Layout, start: Start, count: int) -> Start:
    public = layout.host_key.with_suffix(".pub").read_text().split()
    # Each is a key of its own to sshd and to us: the last bytes are the key itself.
    lines = [f"{public[0]} {public[1][:-6]}{number:06d} key-{number}" for number in range(count)]
    return replace(start, environ={**start.environ, "PUBLIC_KEY": "\n".join(lines)})


def _variables(layout: Layout, start: Start, count: int) -> Start:
    more = {f"BENCH_VARIABLE_{number}": f"value {number}" for number in range(count)}
    return replace(start, environ={**start.environ, **more})


def _login_key(layout: Layout, start: Start, count: int) -> Start:
    public = layout.host_key.with_suffix(".pub").read_text()
    return replace(start, environ={**start.environ, "PUBLIC_KEY": public})


def _same(layout: Layout, start: Start, count: int) -> Start:
    return start


@contextmanager
def _nothing(layout: Layout, run: Run, count: int) -> Iterator[None]:
    yield


@contextmanager
def _kernels(layout: Layout, run: Run, count: int) -> Iterator[None]:
    for _ in range(count):
        request(run, "POST", "/api/kernels")
        run.read_for(0)
    yield


@contextmanager
def _logins(layout: Layout, run: Run, count: int) -> Iterator[None]:
    options = [
        "-i", str(layout.host_key), "-p", str(run.start.ssh_port), "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes",
    ]  # fmt: skip
    user = run.start.environ["NB_USER"]
    held = []
    try:
        for _ in range(count):
            one = subprocess.Popen(
                ["ssh", *options, f"{user}@127.0.0.1", "echo in; exec sleep 600"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            held.append(one)
            assert one.stdout is not None
            if one.stdout.readline() != b"in\n":
                raise RuntimeError(f"login {len(held)} was refused:\n{run.tail()}")
            run.read_for(0)
        yield
    finally:
        for one in held:
            one.kill()
            one.wait()


class Kind(NamedTuple):
    """What there is more and more of."""

    name: str
    counts: tuple[int, ...]
    prepare: Callable[[Layout, Start, int], Start] = _same
    while_running: Callable[[Layout, Run, int], AbstractContextManager[None]] = _nothing


KINDS = (
    Kind("GPUs", (1, 4, 8, 16), prepare=_gpus),
    Kind("keys", (10, 100, 1000), prepare=_keys),
    Kind("variables", (100, 2000), prepare=_variables),
    Kind("kernels", (1, 10, 50, 200), while_running=_kernels),
    Kind("logins", (1, 20, 100), prepare=_login_key, while_running=_logins),
)


def table(layout: Layout, rounds: int) -> str:
    """Measure each kind at each count; return an aligned table of medians."""
    head = f"{'':<16}{'first line':>12}{'sshd':>10}{'PSS':>12}{'idle CPU':>12}"
    rows = [head]
    for kind in KINDS:
        for count in kind.counts:
            costs = [_measure(layout, kind, count) for _ in range(rounds)]
            middle = Cost(*map(statistics.median, zip(*costs, strict=True)))
            rows.append(
                f"{count:>6} {kind.name:<9}{middle.first_line:>10.3f} s{middle.sshd:>8.3f} s"
                f"{middle.memory:>9.1f} MB{middle.cpu:>10.2f} %"
            )
    return "\n".join(rows)


def _measure(layout: Layout, kind: Kind, count: int) -> Cost:
    with tempfile.TemporaryDirectory(dir=layout.root) as folder:
        run = Run(kind.prepare(layout, CONTENDERS["ours"](layout, Path(folder)), count))
        try:
            wait_until_up(run)
            with kind.while_running(layout, run, count):
                run.read_for(SETTLE_SECONDS)
                memory, cpu = _steady(run)
        finally:
            run.stop()
        return Cost(run.seconds_to_first_line(), run.seconds_to("sshd"), memory, cpu)


def _steady(run: Run) -> tuple[float, float]:
    """Return the megabytes and the share of a core, in percent, of what supervises."""
    own = supervising(run.pid)
    used, since = cpu_seconds(own), time.monotonic()
    run.read_for(_IDLE_SECONDS)
    if gone := set(own) - set(supervising(run.pid)):
        raise RuntimeError(f"of what supervises {gone} ended meanwhile:\n{run.tail()}")
    share = (cpu_seconds(own) - used) / (time.monotonic() - since)
    return pss_megabytes(own), 100 * share
