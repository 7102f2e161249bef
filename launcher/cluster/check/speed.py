"""Judge what the measured job did: who did not arrive, what came out wrong, who is slow.  Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from launcher.cluster import values
from launcher.cluster.check.compare import differ
from launcher.cluster.check.facts import Finding, Reduced

SLOW = 2.0  # times as long as the others
_FEWEST = 3  # nodes of which one can be called slow
PAIR_BYTES = 8 << 20

_REACHED = {
    "start": "did not import torch", "torch": "did not meet the others", "met": "met the others "
    "and finished no all_reduce", "pairs": "did not finish sending to each other node",
}  # fmt: skip


def judge(reduced: Sequence[Reduced], names: Mapping[int, str]) -> Iterator[Finding]:
    """Yield what is wrong with a run, most telling first."""
    unfinished = [one for one in reduced if one.reached != "done"]
    if unfinished:
        yield from _stuck(unfinished, names)
        return
    yield from _wrong(reduced, names)
    yield from _versions(reduced, names)
    slow = _slow_nodes(reduced)
    # gloo's ways are only as fast as the CPUs at both ends, which are said to be slow already.
    known = slow.keys() if not any(one.nccl for one in reduced) else ()
    for at, finding in _slow_network(pair_times(reduced), names):
        if not at & {*known}:
            yield finding
    yield from (_slow_node(names[node], times) for node, times in slow.items())


def _stuck(unfinished: Sequence[Reduced], names: Mapping[int, str]) -> Iterator[Finding]:
    """Name those that got least far: the others wait for them."""
    least = min(unfinished, key=lambda one: _how_far(one.reached))
    same = [one for one in unfinished if one.reached == least.reached]
    nodes = list(dict.fromkeys(names[one.node] for one in same))
    said = next((one.error for one in same if one.error), "no answer in its time")
    did = _REACHED.get(least.reached, f"stopped after {least.reached} bytes")
    yield Finding(
        "all_reduce",
        f"{', '.join(nodes[:4])} {did}: {said}",
        "a job would hang here, and its watchdog would say so minutes later",
        _what_shows_it(least, any(one.nccl for one in unfinished)),
    )


def _what_shows_it(least: Reduced, is_nccl: bool) -> str:
    if least.reached == "start":
        return "there, in the environment of the job: python -c 'import torch'"
    variable = "NCCL_DEBUG=INFO" if is_nccl else "TORCH_CPP_LOG_LEVEL=INFO"
    return f"{variable} launcher cluster check shows what the library tries"


def _how_far(reached: str) -> int:
    """Return what sorts the steps: the sizes, in bytes, lie between meeting and the pairs."""
    if (size := values.number(reached)) is not None:
        return size
    return {"start": 0, "torch": 1, "met": 2}.get(reached, 1 << 40)


def _wrong(reduced: Sequence[Reduced], names: Mapping[int, str]) -> Iterator[Finding]:
    wrong = [(one, row) for one in reduced for row in one.wrong]
    if wrong:
        one, (size, got, expected) = wrong[0]
        lost = expected - got
        whose = f"; as if rank {lost - 1:g} had not been there" if lost >= 1 else ""
        yield Finding(
            "all_reduce",
            f"a sum of {size} bytes is {got:g} and not {expected:g} on {names[one.node]}{whose}",
            "training would go on with wrong gradients",
            "launcher doctor on that node; ECC errors, then its cables and cards",
        )


def _versions(reduced: Sequence[Reduced], names: Mapping[int, str]) -> Iterator[Finding]:
    loaded = {names[one.node]: one.nccl for one in reduced if one.nccl}
    if said := differ(loaded):
        yield Finding(
            "versions", f"NCCL as it is loaded: {said}", "all ranks need one version",
            "LD_LIBRARY_PATH and LD_PRELOAD there: another libnccl.so.2 comes first",
        )  # fmt: skip


# --- speed -----------------------------------------------------------------------------------


def pair_times(reduced: Sequence[Reduced]) -> dict[tuple[int, int], float]:
    """Return the seconds of each pair of nodes, the better of what its two ends measured."""
    found: dict[tuple[int, int], float] = {}
    for one in reduced:
        for other, seconds in one.pairs:
            key = (min(one.node, other), max(one.node, other))
            found[key] = min(seconds, found.get(key, seconds))
    return found


def _slow_network(
    pairs: Mapping[tuple[int, int], float], names: Mapping[int, str]
) -> Iterator[tuple[frozenset[int], Finding]]:
    """Yield which nodes, and what is said: slow in all its pairs = the node; in one = the pair."""
    nodes = sorted({node for pair in pairs for node in pair})
    if len(nodes) < _FEWEST:
        return
    slow: list[int] = []
    for node in nodes:
        own = [seconds for pair, seconds in pairs.items() if node in pair]
        rest = [seconds for pair, seconds in pairs.items() if node not in pair]
        if min(own) > SLOW * statistics.median(rest):
            slow.append(node)
            said = _slow(f"the network of {names[node]}", min(own), statistics.median(rest))
            yield frozenset((node,)), said
    usual = statistics.median(pairs.values())
    for (one, other), seconds in pairs.items():
        if seconds > SLOW * usual and one not in slow and other not in slow:
            said = _slow(f"the way between {names[one]} and {names[other]}", seconds, usual)
            yield frozenset((one, other)), said


def _slow(who: str, seconds: float, usual: float) -> Finding:
    here, there = (f"{rate(PAIR_BYTES, each):.2f} GB/s" for each in (seconds, usual))
    return Finding(
        "all_reduce", f"{who} is slow: {here}, where the others have {there}",
        "every step waits for it",
        "launcher torchrun --dry-run there: is it the same interface, is its RDMA card active?",
    )  # fmt: skip


def rate(size: int, seconds: float) -> float:
    """Return GB/s of sending and receiving so many bytes."""
    return 2 * size / seconds / 1e9 if seconds > 0 else 0.0


def bus_rate(size: int, seconds: float, world: int) -> float:
    """Return an all_reduce's bus bandwidth in GB/s, as nccl-tests counts it (PERFORMANCE.md)."""
    return size / seconds * 2 * (world - 1) / world / 1e9 if seconds > 0 else 0.0


def _slow_nodes(reduced: Sequence[Reduced]) -> dict[int, float]:
    """Return the nodes that compute slowly, and how many times as long as the others they take."""
    times: dict[int, list[float]] = defaultdict(list)
    for one in reduced:
        if one.gemm:
            times[one.node].append(one.gemm)
    if len(times) < _FEWEST:
        return {}
    worst = {node: max(own) for node, own in times.items()}
    found = {}
    for node, seconds in worst.items():
        usual = statistics.median(other for at, other in worst.items() if at != node)
        if seconds > SLOW * usual:
            found[node] = seconds / usual
    return found


def _slow_node(name: str, times: float) -> Finding:
    return Finding(
        "all_reduce", f"{name} computes slowly: a product of matrices takes it {times:.1f} times "
        "as long as the others",
        "every step waits for it",
        "who else computes there (nvidia-smi, top), a CPU limit, clocks held down: "
        "launcher doctor",
    )  # fmt: skip
