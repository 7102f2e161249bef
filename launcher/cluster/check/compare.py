"""Hold what the nodes say against each other, and name the odd one.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from launcher.cluster.check.facts import Finding, NodeReport, Pair
from launcher.cluster.ranks import kinds
from launcher.detect.hosts import is_loopback
from launcher.model.named_tuple import NamedTuple

CLOCK = 2.0  # seconds apart that say that nobody sets a clock; torch takes 15 for a death


class _Row(NamedTuple):
    """Something that has to be the same everywhere."""

    stage: str
    name: str
    value: Callable[[NodeReport], object]
    means: str
    fix: str
    fatal: bool = True


def _version(name: str) -> Callable[[NodeReport], object]:
    return lambda report: dict(report.versions).get(name) or "none"


def _kinds(report: NodeReport) -> str:
    return kinds(report.gpus) or "none"


def _bytes(value: int | None, none: str) -> str:
    return none if value is None else f"{value >> 20} MiB"


_IMAGE = "run the same image on all nodes: pin it by its digest"
_ROWS = (
    _Row("beliefs", "nodes", lambda report: report.nodes,
         "torchrun would begin with the smaller number, or wait for nodes that never come",
         "give all nodes the same --nnodes"),
    _Row("beliefs", "processes a node", lambda report: report.processes,
         "ranks would not fit together: torchrun trains on with a wrong WORLD_SIZE",
         "the same --nproc-per-node on all; where a GPU is missing: launcher doctor there"),
    _Row("beliefs", "port", lambda report: report.port,
         "they would wait for each other at different doors", "the same --master-port on all"),
    _Row("versions", "torch", _version("torch"),
         "processes of different versions do not understand each other", _IMAGE),
    _Row("versions", "CUDA", _version("CUDA"), "other kernels, and another NCCL", _IMAGE),
    _Row("versions", "NCCL", _version("NCCL"),
         "NCCL refuses or hangs: all ranks need one version", _IMAGE),
    _Row("versions", "driver", _version("driver"),
         "it works as a rule; what fails on one node alone may be this",
         "the same driver on all hosts", fatal=False),
    _Row("versions", "launcher", _version("launcher"), "the images differ", _IMAGE, fatal=False),
    _Row("machines", "GPUs", _kinds,
         "the slowest GPU sets everybody's pace; unequal numbers do not fit at all",
         "launcher doctor on the node that differs"),
    _Row("machines", "MTU", lambda report: report.mtu or "not known",
         "large messages vanish between nodes while small ones pass",
         "the same MTU on the interface of each node and on the switch"),
    _Row("machines", "memlock", lambda report: _bytes(report.memlock, "unlimited"),
         "RDMA may not register its memory there", "docker run --ulimit memlock=-1 …", fatal=False),
    _Row("machines", "/dev/shm", lambda report: _bytes(report.shm, "none"),
         "DataLoader workers and NCCL run out of shared memory there",
         "docker run --shm-size=8g …", fatal=False),
    _Row("machines", "active RDMA ports", lambda report: ", ".join(report.rdma) or "none",
         "the node with fewer sets everybody's pace, or NCCL falls back to sockets",
         "launcher torchrun --dry-run there says which card is down or may not be opened",
         fatal=False),
    _Row("machines", "variables", lambda report: _settings(report),
         "the libraries would choose differently", "set them the same on all, or on none",
         fatal=False),
)  # fmt: skip


def _settings(report: NodeReport) -> str:
    """Return NCCL's variables but for what is each node's own: interfaces and cards."""
    own = ("_IFNAME", "_IB_HCA", "_HOSTID", "_FILE")
    return " ".join(f"{k}={v}" for k, v in report.settings if not k.endswith(own)) or "none"


def compare(reports: Sequence[NodeReport]) -> Iterator[Finding]:
    """Yield what differs, and the ranks that two nodes have."""
    yield from _ranks(reports)
    for row in _ROWS:
        values = {report.shown: str(row.value(report)) for report in reports}
        if said := differ(values):
            yield Finding(row.stage, f"{row.name}: {said}", row.means, row.fix, row.fatal)
    for report in reports:
        yield from _names_of(report)


def _names_of(report: NodeReport) -> Iterator[Finding]:
    """Yield what is wrong with a node's own address, its name and the interface it was given."""
    a_line = "a line in its /etc/hosts with the address that the others see"
    if is_loopback(report.address):
        yield Finding(
            "machines", f"{report.shown} is {report.address} to itself, which is loopback",
            "no other node reaches it there", a_line,
        )  # fmt: skip
    elif report.nodes > 1 and (not report.own_name or is_loopback(report.own_name)):
        what = f"is {report.own_name}, which is loopback" if report.own_name else "has no address"
        yield Finding(
            "machines", f"the host name of {report.shown} {what}",
            "gloo would give the others that; launcher torchrun sets GLOO_SOCKET_IFNAME instead, "
            "torchrun alone does not",
            f"{a_line}, or start the job by launcher torchrun", fatal=False,
        )  # fmt: skip
    if report.talks_by and not report.talks:
        yield Finding(
            "machines", f"{report.shown}: {report.talks_by}, and no interface that is up is that",
            "the library ends with an error there, or takes loopback",
            f"unset it, or {report.interface or 'the interface that leads to the others'}",
        )  # fmt: skip


def _ranks(reports: Sequence[NodeReport]) -> Iterator[Finding]:
    found: dict[int, list[str]] = defaultdict(list)
    for report in reports:
        found[report.rank].append(f"{report.hostname} {report.address}")
    for rank, names in found.items():
        if len(names) > 1:
            yield Finding(
                "beliefs", f"rank {rank} is claimed by {len(names)} nodes: {'; '.join(names)}",
                "torchrun would wait fifteen minutes without a word",
                "give each node its own --node-rank, 0 to nodes - 1",
            )  # fmt: skip


def differ(values: Mapping[str, str]) -> str:
    """Return who has what, the odd ones by name; "" where all have the same."""
    groups: dict[str, list[str]] = defaultdict(list)
    for who, value in values.items():
        groups[value].append(who)
    if len(groups) < 2:
        return ""
    most = max(groups.values(), key=len)
    if len(most) * 2 <= len(values):  # no majority: all by name
        return "; ".join(f"{value} on {_some(who)}" for value, who in groups.items())
    usual = next(value for value, who in groups.items() if who is most)
    odd = (f"{value} on {_some(who)}" for value, who in groups.items() if who is not most)
    return f"{'; '.join(odd)}; the other {len(most)} have {usual}"


def _some(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# --- clocks ----------------------------------------------------------------------------------


def clocks(offsets: Mapping[int, float], names: Mapping[int, str]) -> Iterator[Finding]:
    """Yield the nodes whose clock is off.

    Args:
        offsets: seconds that a node's clock is ahead of node 0's.
    """
    apart = {0: 0.0, **offsets}
    middle = sorted(apart.values())[len(apart) // 2]
    for rank, seconds in apart.items():
        off = seconds - middle
        if abs(off) > CLOCK:
            side = "ahead of" if off > 0 else "behind"
            yield Finding(
                "clocks",
                f"the clock of {_name(names, rank)} is {abs(off):.1f} s {side} the others'",
                "with --nnodes=MIN:MAX torchrun takes a node 15 s behind for dead, and trains on "
                "without it",
                "set the host's clock: chronyc makestep, or start chronyd",
            )  # fmt: skip


# --- who came, who reaches whom ------------------------------------------------------------------


def absent(zero: NodeReport, reports: Sequence[NodeReport], seconds: float) -> Iterator[Finding]:
    """Yield the nodes that never came; as many as a variable may say cost nothing."""
    there = {report.rank for report in reports}
    first = list(islice((rank for rank in range(zero.nodes) if rank not in there), 9))
    if first and len(reports) < zero.nodes:
        listed = ", ".join(map(str, first[:8])) + (" …" if len(first) > 8 else "")
        noun, that = ("node", "that node") if len(first) == 1 else ("nodes", "those nodes")
        yield Finding(
            "reach", f"{noun} {listed} of {zero.nodes} never came, in {seconds:g} s",
            "torchrun would wait for them, fifteen minutes at most, without a word",
            f"the same command on {that}, within {seconds:g} s; where it runs there, it says why "
            f"it does not come to {zero.master}:{zero.port}",
        )  # fmt: skip


def _name(names: Mapping[int, str], rank: int) -> str:
    return names.get(rank, f"node {rank}")


_FIREWALL = "let the nodes reach each other on every port: NCCL and gloo take random ones"
_CUT_OFF = "only the master's port lets through: the first collective would hang"


def blame(pairs: Sequence[Pair], reports: Sequence[NodeReport]) -> Iterator[Finding]:
    """Yield the node that nobody reaches, that reaches nobody, or the pair that does not meet.

    A bad row is a node, a bad cell a pair.
    """
    nodes = {report.rank: report for report in reports}
    known = [one for one in pairs if nodes.keys() >= {one.source, one.target}]
    bad = {(one.source, one.target): one.error for one in known if one.seconds is None}
    every = {(one.source, one.target) for one in known}
    told: set[tuple[int, int]] = set()
    for side in (1, 0):
        for rank in sorted({pair[side] for pair in bad}):
            mine = {pair for pair in every if pair[side] == rank}
            if len(mine) > 1 and mine <= bad.keys() and not mine <= told:
                told |= mine
                why = bad[min(mine)]
                yield (
                    _unreached(nodes[rank], why)
                    if side
                    else Finding(
                        "pairs",
                        f"{nodes[rank].shown} reaches no other ({why})",
                        _CUT_OFF,
                        _FIREWALL,
                    )
                )
    for source, target in sorted(bad.keys() - told):
        if nodes[target].talks_by:
            yield _unreached(nodes[target], bad[source, target])
            continue
        yield Finding(
            "pairs", f"{nodes[source].shown} does not reach {nodes[target].shown} "
            f"({bad[source, target]})",
            "small messages may pass and large ones vanish; the first collective would hang",
            _FIREWALL if "64 KiB" not in bad[source, target] else
            "the MTU of the way between them: try ping -M do -s 1472",
        )  # fmt: skip


def _unreached(node: NodeReport, why: str) -> Finding:
    """Return what is said of a node that nobody reaches, at the door that it was given."""
    if not node.talks_by:
        return Finding(
            "pairs", f"{node.shown} is reached by no other on a port of its own ({why})",
            _CUT_OFF, _FIREWALL,
        )  # fmt: skip
    return Finding(
        "pairs", f"{node.shown} is reached by no other at {node.talks} ({why}), where its "
        f"libraries listen: {node.talks_by}",
        "that interface does not lead to the others: the first collective would hang",
        f"unset it there; the way to the others is {node.interface}",
    )  # fmt: skip
