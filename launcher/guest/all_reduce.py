"""One process of a measured job: meet the others, sum, and send to each other node.

`all_reduce.py JSON` prints a line of JSON after each step, so that whoever kills it knows how far
it came.  Whole numbers are summed, each rank's its own: a wrong sum tells whose share is missing.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from datetime import timedelta
from typing import Any

_SIZES = tuple(1 << power for power in range(12, 29, 2))  # 4 KiB to 256 MiB
_LARGEST_ON_CPUS = 1 << 24
_PAIR_BYTES = 8 << 20
_EVERY = 16  # nodes up to which each pair is measured
_TRY = 0.15  # seconds of products of matrices, three times


class Process:
    """This rank; `facts` is what it has found so far."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.rank: int = asked["rank"]
        self.world: int = asked["world"]
        self.until = time.monotonic() + asked["seconds"]
        self.facts: dict[str, Any] = {
            "rank": self.rank, "node": asked["node"], "reached": "start",
        }  # fmt: skip

    def tell(self, reached: str, **more: Any) -> None:
        self.facts.update(more, reached=reached)
        print("\n" + json.dumps(self.facts), flush=True)  # a library may have printed half a line

    def run(self) -> None:
        self.tell("start")
        import torch
        import torch.distributed as dist

        self.torch, self.dist = torch, dist
        gpu = self.asked["backend"] == "nccl"
        self.device = f"cuda:{self.asked['local']}" if gpu else "cpu"
        if gpu:
            torch.cuda.set_device(self.device)
        self.tell("torch", gemm=self._gemm(), nccl=_nccl_version() if gpu else "")
        host = self.asked["master"]
        host = f"[{host}]" if ":" in host else host
        dist.init_process_group(
            self.asked["backend"],
            init_method=f"tcp://{host}:{self.asked['port']}",
            rank=self.rank,
            world_size=self.world,
            timeout=timedelta(seconds=max(1.0, self.until - time.monotonic())),
        )
        self.tell("met")
        self._sums()
        self.tell("pairs")
        pairs = self._pairs() if self.asked["nodes"] > 1 else []
        self.tell("done", pairs=pairs)

    # --- this process alone ----------------------------------------------------------------

    def _gemm(self) -> float:
        """Return the seconds of one product of matrices, the best of three tries.

        A try is longer than the 0.1 s after which a CPU limit holds its processes (CFS): short
        work between two such pauses would not notice.
        """
        side = 4096 if self.device != "cpu" else 256
        one = self.torch.ones(side, side, device=self.device)
        return min(self._each(lambda: one @ one) for _ in range(3))

    def _each(self, work: Any) -> float:
        """Return the seconds that one piece of work takes, of as many as fit into a try."""
        done, began = 0, time.perf_counter()
        while (taken := time.perf_counter() - began) < _TRY or not done:
            work()
            self._settle()
            done += 1
        return taken / done

    def _timed(self, work: Any) -> float:
        self._settle()
        began = time.perf_counter()
        work()
        self._settle()
        return time.perf_counter() - began

    def _settle(self) -> None:
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    # --- all together ----------------------------------------------------------------------

    def _sums(self) -> None:
        sizes, wrong = [], []
        expected = self.world * (self.world + 1) / 2
        for size in _SIZES:
            if self.device == "cpu" and size > _LARGEST_ON_CPUS:
                break
            times = []
            for _ in range(3):
                values = self.torch.full((size // 4,), self.rank + 1.0, device=self.device)
                times.append(self._timed(lambda v=values: self.dist.all_reduce(v)))
                low, high = float(values.min()), float(values.max())
                if low != expected or high != expected:
                    wrong.append([size, low if low != expected else high, expected])
            sizes.append([size, min(times)])
            self.tell(str(size), sizes=sizes, wrong=wrong)
            if not self._all_have_time():
                break

    def _all_have_time(self) -> bool:
        """Ask all: whoever stops alone would leave the others waiting."""
        left = self.until - time.monotonic() > self.asked["seconds"] / 2
        votes = self.torch.tensor([float(left)], device=self.device)
        self.dist.all_reduce(votes, op=self.dist.ReduceOp.MIN)
        return bool(votes.item())

    # --- two by two ------------------------------------------------------------------------

    def _pairs(self) -> list[list[float]]:
        """Send to each other node and back, in rounds in which every node has one partner."""
        best: dict[int, float] = {}
        block = self.torch.ones(_PAIR_BYTES // 4, device=self.device)
        for _ in range(3):  # the better of three: a machine may be busy for a moment
            for number in range(_rounds(self.asked["nodes"])):
                other = _partner(self.asked["node"], number, self.asked["nodes"])
                if other is not None and self.asked["local"] == 0:
                    took = self._timed(lambda o=other: self._exchange(o, block))
                    best[other] = min(took, best.get(other, took))
                self.dist.barrier()
        return [[other, seconds] for other, seconds in sorted(best.items())]

    def _exchange(self, other: int, block: Any) -> None:
        rank = other * self.asked["per_node"]
        first = self.asked["node"] < other
        (self.dist.send if first else self.dist.recv)(block, rank)
        (self.dist.recv if first else self.dist.send)(block, rank)


def _rounds(nodes: int) -> int:
    """Return how many rounds there are: all pairs, or of many nodes those 1, 2, 4 … apart."""
    if nodes <= _EVERY:
        return nodes - 1 + nodes % 2
    return (nodes - 1).bit_length()


def _partner(node: int, number: int, nodes: int) -> int | None:
    """Return whom a node meets in a round; None = nobody.  Round robin by the circle method."""
    if nodes > _EVERY:
        other = node ^ (1 << number)
        return other if other < nodes else None
    seats = nodes + nodes % 2
    last = seats - 1
    if node == last:
        other = number * (seats // 2) % last
    elif 2 * node % last == number:
        other = last
    else:
        other = (number - node) % last
    return other if other < nodes else None


def _nccl_version() -> str:
    """Return the version that is loaded, which pip's and torch's own words may not be."""
    number = ctypes.c_int()
    for name in (None, "libnccl.so.2"):
        try:
            if ctypes.CDLL(name).ncclGetVersion(ctypes.byref(number)) == 0:
                value = number.value
                return f"{value // 10000}.{value // 100 % 100}.{value % 100}"
        except (OSError, AttributeError):
            continue
    return ""


def main() -> None:
    process = Process(json.loads(sys.argv[1]))
    try:
        process.run()
    except Exception as err:
        lines = str(err).strip().splitlines() or [type(err).__name__]
        process.tell(process.facts["reached"], error=lines[0][:300])
        os._exit(1)
    os._exit(0)  # what a library does at exit is not asked


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
    from launcher_child import begin

    begin()
    main()
