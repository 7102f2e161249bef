"""Let devices talk to each other: point-to-point between every two, then all_reduce over all.

`python collective.py RANK RANKS STORE BACKEND SIZE` is one process of RANKS, for CUDA device RANK
(gloo: for none).  They meet in the file STORE and send at most SIZE bytes at once.  Each prints a
JSON line at every step that it begins, and one at the end: whoever ends what hangs knows where.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

_LONGEST = 300  # characters of a reason
_FLOAT = 4  # bytes
_SIZES = (1 << 12, 1 << 20, 1 << 24, 1 << 28)  # bytes: NCCL has other protocols for other sizes
_PAIR_SIZE = 1 << 26
_TIMES = 3
_SLOW = 2.0  # seconds for one size: no larger one is tried
_PERIOD = 1009  # of the pattern that is sent: prime, so no block of memory is like its neighbour


class Talk:
    """One process's part, and what it knows so far."""

    def __init__(self, torch: Any, rank: int, ranks: int, backend: str) -> None:
        self._torch, self._dist = torch, torch.distributed
        self._rank, self._ranks = rank, ranks
        self._on_gpu = backend == "nccl"
        self._device = f"cuda:{rank}" if self._on_gpu else "cpu"
        self.known: dict[str, Any] = {"outcome": None, "pairs": {}}

    def begin(self, step: str, peer: int | None = None) -> None:
        self.known |= {"step": step, "peer": peer}
        _say(self.known)

    def connect(self, backend: str, store: str) -> None:
        self.begin("connect")
        if self._on_gpu:
            self._torch.cuda.set_device(self._rank)
            version = self._torch.cuda.nccl.version()
            self.known["version"] = ".".join(map(str, version))
        self._dist.init_process_group(
            backend, init_method=f"file://{store}", rank=self._rank, world_size=self._ranks,
            timeout=timedelta(hours=1),  # who started us ends us
        )  # fmt: skip

    def exchange(self, size: int) -> None:
        """Send to every other, and receive from it: in rounds, in which each has one partner."""
        mine, buffer = self._numbers(size), self._numbers(size)
        for peer in partners(self._rank, self._ranks):
            self.begin("point-to-point", peer)
            buffer.zero_()
            self._swap(mine, buffer, peer)  # the first one connects them
            seconds = self._time(partial(self._swap, mine, buffer, peer))
            self.known["pairs"][peer] = 2 * size / seconds
            if not self._torch.equal(buffer, mine - self._rank + peer):
                self._is_wrong(f"{size} bytes from the other arrived as others")

    def _swap(self, mine: Any, buffer: Any, peer: int) -> None:
        if self._rank < peer:
            self._dist.send(mine, peer)
            self._dist.recv(buffer, peer)
        else:
            self._dist.recv(buffer, peer)
            self._dist.send(mine, peer)

    def reduce(self, largest: int) -> None:
        """Add up all processes' numbers, larger and larger, and look at every sum."""
        self.begin("all_reduce")
        ranks = self._ranks
        for size in (size for size in _SIZES if size <= largest):
            ours = self._numbers(size)
            expected = (ours - self._rank) * ranks + ranks * (ranks - 1) // 2
            self._dist.all_reduce(ours)
            if not self._torch.equal(ours, expected):
                self._is_wrong(f"the sums of {size} bytes are others")
            seconds = self._time(partial(self._dist.all_reduce, ours))
            # Each sends and receives this much of it (nccl-tests, doc/PERFORMANCE.md).
            self.known["all_reduce"] = size / seconds * 2 * (ranks - 1) / ranks
            if self._slowest(seconds) * _TIMES > _SLOW:
                break

    def _numbers(self, size: int) -> Any:
        """Return the pattern plus our rank: whole numbers, whose sums a float has exactly."""
        counted = self._torch.arange(size // _FLOAT, dtype=self._torch.int32, device=self._device)
        return (counted % _PERIOD).float() + self._rank

    def _time(self, act: Callable[[], object]) -> float:
        """Return the seconds of one run, of some."""
        self._wait()
        began = time.perf_counter()
        for _ in range(_TIMES):
            act()
        self._wait()
        return (time.perf_counter() - began) / _TIMES

    def _wait(self) -> None:
        if self._on_gpu:
            self._torch.cuda.synchronize()

    def _slowest(self, seconds: float) -> float:
        """Return what the slowest of all took: all must agree on what comes next."""
        taken = self._torch.full((1,), seconds, device=self._device)
        self._dist.all_reduce(taken, op=self._dist.ReduceOp.MAX)
        return float(taken.sum())

    def _is_wrong(self, reason: str) -> None:
        if self.known["outcome"] is None:  # the first one counts
            where = {"wrong_step": self.known["step"], "wrong_peer": self.known["peer"]}
            self.known |= {"outcome": "wrong", "reason": reason, **where}
            _say(self.known)


def partners(rank: int, ranks: int) -> Iterator[int]:
    """Yield the partner of each round of a round-robin tournament: the circle method.

    With an odd number one has a rest in each round.
    """
    places = ranks + ranks % 2
    for turn in range(places - 1):
        if rank == places - 1:
            other = turn * places // 2 % (places - 1)
        elif 2 * rank % (places - 1) == turn:
            other = places - 1
        else:
            other = (turn - rank) % (places - 1)
        if other < ranks:
            yield other


def talk(rank: int, ranks: int, store: str, backend: str, size: int) -> dict[str, Any]:
    _say({"step": "start"})
    if backend == "gloo":  # the host's name need not be known, and nothing leaves this box
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        import torch
        import torch.distributed as dist
    except Exception as err:  # whatever an import does
        return {"outcome": "missing", "step": "start", "reason": _words(err)}
    if not dist.is_available() or not getattr(dist, f"is_{backend}_available", lambda: True)():
        reason = f"this PyTorch ({torch.__version__}) was built without {backend}"
        return {"outcome": "missing", "step": "start", "reason": reason}
    mine = Talk(torch, rank, ranks, backend)
    try:
        mine.connect(backend, store)
        mine.exchange(min(size, _PAIR_SIZE))
        mine.reduce(size)
    except Exception as err:
        if mine.known["outcome"] is None:
            mine.known |= {"outcome": "error", "reason": _words(err)}
    return {**mine.known, "outcome": mine.known["outcome"] or "ok"}


def _words(err: Exception) -> str:
    """Return what is wrong in a line; NCCL's own words are the last of several."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    if "Last error:" in lines[:-1]:
        return lines[lines.index("Last error:") + 1][:_LONGEST]
    return (lines[0] if lines else type(err).__name__)[:_LONGEST]


def _say(known: dict[str, Any]) -> None:
    print(f"\n{json.dumps(known)}", flush=True)  # a library may have printed half a line


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
    from launcher_child import begin

    begin()
    own, count, meeting, kind, most = sys.argv[1:]
    _say(talk(int(own), int(count), meeting, kind, int(most)))
    os._exit(0)  # what a library does at exit is not asked
