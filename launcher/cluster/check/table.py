"""What the check prints: a row a stage, the nodes, the speeds, and what is wrong.  Pure."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterator

from launcher.cluster.check.facts import STAGES, Finding, Outcome
from launcher.cluster.check.speed import PAIR_BYTES, bus_rate, pair_times, rate

_WIDTH = 80
_NODES = 16  # rows of nodes that are printed; --json has all of them


def as_text(outcome: Outcome, rank: int) -> str:
    """Return the table on node 0, and on the others how it ended."""
    parts = list(_stages(outcome)) if rank == 0 else []
    if rank == 0 and len(outcome.reports) > 1:
        parts += ["", *_nodes(outcome)]
    if outcome.reduced and rank == 0:
        parts += ["", *_speeds(outcome)]
    for finding in outcome.findings:
        parts += ["", *_finding(finding)]
    if rank != 0:
        ended = f"failed at {outcome.failed}" if outcome.failed else "well"
        parts += ["", f"this is node {rank}: the check ended {ended}; node 0 has the table"]
    return "\n".join(parts).strip("\n")


def _stages(outcome: Outcome) -> Iterator[str]:
    for number, stage in enumerate(STAGES, 1):
        own = [finding for finding in outcome.findings if finding.stage == stage]
        bad = [finding for finding in own if finding.fatal]
        if bad:
            word, said = "FAILED", bad[0].what
        elif stage in outcome.skipped:
            word, said = "skipped", _why_skipped(outcome, stage)
        else:
            word, said = "ok", own[0].what if own else _well(outcome, stage)
            if stage != STAGES[0] and 1 < len(outcome.reports) < outcome.nodes:
                those = f"the {len(outcome.reports)} of {outcome.nodes} that came"
                said = f"{those}: {said}" if said else those
        said = textwrap.shorten(said, _WIDTH - 24, placeholder=" …")
        yield f" {number} {stage:<11} {word:<8} {said}".rstrip()


def _why_skipped(outcome: Outcome, stage: str) -> str:
    if outcome.nodes == 1:
        return "one machine"
    return f"waits for {outcome.failed}" if outcome.failed else ""


def _well(outcome: Outcome, stage: str) -> str:
    """Return what is good to know of a stage that is well."""
    if stage == "reach":
        return f"{len(outcome.reports)} of {outcome.nodes} nodes, after {outcome.waited:.1f} s"
    if stage == "clocks" and outcome.offsets:
        return f"within {1000 * max(abs(off) for _, off in outcome.offsets):.0f} ms"
    if stage == "versions":
        said = dict(outcome.reports[0].versions)
        names = (name for name in ("torch", "CUDA", "NCCL") if name in said)
        return ", ".join(f"{name} {said[name]}" for name in names)
    if stage == "all_reduce" and outcome.reduced and outcome.reduced[0].sizes:
        size, seconds = outcome.reduced[0].sizes[-1]
        speed = bus_rate(size, seconds, len(outcome.reduced))
        return f"{len(outcome.reduced)} processes, {_size(size)} at {speed:.2f} GB/s"
    return ""


def _nodes(outcome: Outcome) -> Iterator[str]:
    yield f" {'node':<5}{'host':<24}{'address':<18}{'interface':<14}{'clock':>8}  GPUs"
    offsets = dict(outcome.offsets)
    for report in outcome.reports[:_NODES]:
        clock = f"{1000 * offsets[report.rank]:+.0f} ms" if report.rank in offsets else ""
        host = textwrap.shorten(report.hostname, 23, placeholder="…")
        way = f"{report.interface} {report.mtu or ''}".strip()
        yield (
            f" {report.rank:<5}{host:<24}{report.address:<18}{way:<14}{clock:>8}  "
            f"{len(report.gpus) or 'none'}"
        )
    if len(outcome.reports) > _NODES:
        yield f" … and {len(outcome.reports) - _NODES} more: --json"


def _speeds(outcome: Outcome) -> Iterator[str]:
    sizes: dict[int, list[float]] = defaultdict(list)
    for one in outcome.reduced:
        for size, seconds in one.sizes:
            sizes[size].append(seconds)
    if sizes:
        yield f" {'all_reduce':<12}{'time':>12}{'bus':>14}"
        for size, times in sorted(sizes.items()):
            slowest = max(times)
            speed = bus_rate(size, slowest, len(outcome.reduced))
            yield f" {_size(size):<12}{1000 * slowest:>9.2f} ms{speed:>9.2f} GB/s"
    for (one_node, other), seconds in sorted(pair_times(outcome.reduced).items())[:_NODES]:
        yield f" nodes {one_node}-{other}: {rate(PAIR_BYTES, seconds):.2f} GB/s there and back"


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"


def _finding(finding: Finding) -> Iterator[str]:
    yield f" {finding.stage} ({'failed' if finding.fatal else 'worth a word'})"
    for name, said in (("seen", finding.what), ("means", finding.means), ("fix", finding.fix)):
        lines = textwrap.wrap(said, _WIDTH - 10, break_on_hyphens=False) or [""]
        yield f"   {name:<6} {lines[0]}"
        yield from (f"{'':10}{line}" for line in lines[1:])


def as_data(outcome: Outcome, rank: int) -> dict[str, object]:
    """Return all of it for programs."""
    return {
        "node": rank,
        "nodes": outcome.nodes,
        "failed": outcome.failed,
        "status": outcome.status,
        "skipped": list(outcome.skipped),
        "findings": [one._asdict() for one in outcome.findings],
        "reports": [one._asdict() for one in outcome.reports],
        "clock_offsets_s": {str(node): round(off, 6) for node, off in outcome.offsets},
        "processes": [one._asdict() for one in outcome.reduced],
        "pairs_s": [[*pair, took] for pair, took in pair_times(outcome.reduced).items()],
        "seconds": round(outcome.seconds, 3),
    }
