"""The measured job: a child for each process of this node, each with a deadline.

An NCCL that hangs cannot be interrupted; a process can be killed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from launcher.cluster.check.facts import NodeReport, Reduced
from launcher.cluster.check.wire import decode
from launcher.detect.driver import GUEST
from launcher.model.named_tuple import NamedTuple
from launcher.process.bounded import Child, start_all, wait_for


class Plan(NamedTuple):
    """What node 0 asks of every node."""

    master: str
    port: int
    backend: str
    seconds: float


def backend_of(reports: Sequence[NodeReport]) -> str:
    """Return what all of them can: nccl where each process has a device of its own."""
    every = all(len(report.gpus) >= report.processes for report in reports)
    return "nccl" if every else "gloo"


def run(
    plan: Plan, report: NodeReport, python: str, environ: Mapping[str, str]
) -> tuple[Reduced, ...]:
    """Run this node's processes to their end, or kill them at theirs; return how far each came."""
    base = report.rank * report.processes
    asked = (
        {
            "rank": base + local, "world": report.nodes * report.processes, "local": local,
            "node": report.rank, "nodes": report.nodes, "per_node": report.processes,
            **plan._asdict(),
        }
        for local in range(report.processes)
    )  # fmt: skip
    script = (python, f"{GUEST}/all_reduce.py")
    try:
        children = start_all(((*script, json.dumps(words)), environ) for words in asked)
    except OSError as err:
        return (Reduced(base, report.rank, "start", f"{python}: {err.strerror}"),)
    ended = wait_for(children, plan.seconds + 1.0, lambda: None)
    return tuple(
        _read(child, done, base + local, report.rank)
        for local, (child, done) in enumerate(zip(children, ended, strict=True))
    )


def _read(child: Child, ended: bool, rank: int, node: int) -> Reduced:
    found = decode(Reduced, child.answer)
    if found is None:
        return Reduced(rank, node, "start", child.end if ended else "no answer in its time")
    if found.reached != "done" and not found.error:
        return found._replace(error=child.end if ended else "no answer in its time")
    return found
