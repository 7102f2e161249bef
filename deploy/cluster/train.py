"""A small training for several nodes, to try them with: the same losses on one process and on many.

    launcher torchrun train.py [STEPS] [SECONDS]    # STEPS in all; SECONDS of rest after each

Each process takes its share of a batch.  Where CHECKPOINT names a file, a node keeps what was
learned there, and a job that goes on without one of its nodes begins with the best that is left.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

BATCH = 48  # rows of all processes together: 1, 2, 3, 4, 6, 8 … of them have equal shares


def rows(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch, the same wherever it is made."""
    chance = torch.Generator().manual_seed(step)
    given = torch.randn(BATCH, 16, generator=chance)
    return given, given.sin().sum(1, keepdim=True)


def resume(model: nn.Module, kept: Path | None) -> int:
    """Take over what the node that came furthest has; return the step to go on with."""
    found = torch.load(kept) if kept and kept.exists() else {"step": 0, "model": None}
    if found["model"]:
        model.load_state_dict(found["model"])
    steps: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(steps, found["step"])
    for tensor in model.state_dict().values():
        dist.broadcast(tensor, src=steps.index(max(steps)))
    return max(steps)


def main(steps: int = 20, rest: float = 0.0) -> None:
    gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if gpu else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else "cpu"
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 1)).to(device)
    kept = Path(os.environ["CHECKPOINT"]) if os.environ.get("CHECKPOINT") else None
    first = resume(inner, kept)
    model = DistributedDataParallel(inner)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(first, steps):
        given, wanted = (part[rank::world].to(device) for part in rows(step))
        loss = nn.functional.mse_loss(model(given), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        shown = loss.detach().clone()
        dist.all_reduce(shown)
        if rank == 0:
            print(f"step {step}: loss {shown.item() / world:.5f}, {world} processes", flush=True)
        if kept and os.environ.get("LOCAL_RANK", "0") == "0":
            torch.save({"step": step + 1, "model": inner.state_dict()}, kept)
        time.sleep(rest)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:], strict=False)))
