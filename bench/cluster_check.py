"""What the cluster's check costs before anything of torch's: time and traffic, by number of nodes.

All nodes are threads of this process, on the loopback interface, whose counters tell the traffic:
nothing else should use it meanwhile.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.layout import Layout
from launcher.cluster.check import check
from launcher.cluster.check.facts import NodeReport
from launcher.cluster.check.look import Here
from testing.local_box import free_ports

COUNTS = (2, 8, 16, 32, 64, 128)
_VERSIONS = (("launcher", "1.0"), ("torch", "2.6.0"), ("CUDA", "12.4"), ("NCCL", "2.21.5"))


def table(layout: Layout, rounds: int) -> str:
    """Measure, and return an aligned table of the best of some rounds."""
    rows = ["nodes    time, all   a node    traffic, all   a node"]
    for count in COUNTS:
        taken, moved = min(_run(count) for _ in range(max(2, min(rounds, 3))))
        rows.append(
            f"{count:>5}{taken:>11.2f} s{1000 * taken / count:>6.1f} ms"
            f"{moved / 1e6:>13.2f} MB{moved / count / 1e6:>6.2f} MB"
        )
    return "\n".join(rows)


def _run(count: int) -> tuple[float, int]:
    """Return the seconds, and the bytes that went through the loopback interface."""
    (port,) = free_ports(1)
    nodes = [_node(rank, count, port) for rank in range(count)]
    before, began = _loopback(), time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        outcomes = list(pool.map(check.run, nodes))
    taken = time.perf_counter() - began
    assert len(outcomes[0].reports) == count, outcomes[0].findings
    return taken, _loopback() - before


def _node(rank: int, count: int, port: int) -> Here:
    report = NodeReport(
        rank, count, 8, f"gpu{rank}", "127.0.0.1", "127.0.0.1", port, "Slurm", "eth0", 9000,
        _VERSIONS, ("NVIDIA H100 80GB HBM3",) * 8, own_name="127.0.0.1",
    )  # fmt: skip
    return Here(report, True, "job", "/nonexistent/python", {}, 60.0, lambda _: None)


def _loopback() -> int:
    line = next(
        line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip()[:3] == "lo:"
    )
    return int(line.split()[1])
