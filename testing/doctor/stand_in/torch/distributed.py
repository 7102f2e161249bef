"""A stand-in for torch.distributed: no process hears of another; it ends as `collective` says:

at: "connect" | "send" | "all_reduce"   where it does not go well
how: "hang" | "crash" | "wrong" | text  … and how; a text is that of an error
unless: "NCCL_P2P_DISABLE=1"            the variable with which all goes well
pair: [0, 1]                            at "send", of these two alone
seconds: 0.1                            that everything takes
nccl: false                             this build has none
"""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

from torch import Numbers, _described, _suffer

_fault = _described.get("collective", {})
_own = SimpleNamespace(rank=0, ranks=0)
ReduceOp = SimpleNamespace(MAX="max")


def is_available() -> bool:
    return True


def is_nccl_available() -> bool:
    return bool(_fault.get("nccl", True))


def _is_wrong(at: str, peer: int | None = None) -> bool:
    """Suffer what is to be suffered here; return whether the result is to be wrong."""
    time.sleep(_fault.get("seconds", 0))
    name, _, value = _fault.get("unless", "").partition("=")
    if _fault.get("at") != at or (name and os.environ.get(name) == value):
        return False
    if "pair" in _fault and sorted(_fault["pair"]) != sorted((_own.rank, peer)):
        return False
    if _fault["how"] not in ("hang", "crash", "wrong"):
        raise RuntimeError(_fault["how"])
    _suffer(_fault["how"])
    return True


def init_process_group(backend: str, **given: object) -> None:
    _own.rank, _own.ranks = given["rank"], given["world_size"]
    _is_wrong("connect")


def send(numbers: Numbers, peer: int) -> None:
    _is_wrong("send", peer)


def recv(numbers: Numbers, peer: int) -> None:
    numbers.times, numbers.plus = 1, peer
    if _is_wrong("send", peer):
        numbers.plus += 1


def all_reduce(numbers: Numbers, op: str | None = None) -> None:
    if op:
        return
    ranks = _own.ranks
    numbers.times, numbers.plus = ranks, ranks * (ranks - 1) // 2
    if _is_wrong("all_reduce"):
        numbers.plus += 1
