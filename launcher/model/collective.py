"""What the GPUs said to each other when the doctor let them talk.  Imports nothing of ours.

A rank is one process, which has one GPU; ranks count the devices that the user's CUDA sees.
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.model.named_tuple import NamedTuple

NCCL, GLOO = "nccl", "gloo"  # as torch.distributed names its backends

# What is tried where it is not well, each alone, beside the user's own environment (NCCL user
# guide, "Environment Variables"): with these NCCL leaves one way out.
NO_P2P = "NCCL_P2P_DISABLE=1"
NO_SHM = "NCCL_SHM_DISABLE=1"
NO_NVLS = "NCCL_NVLS_ENABLE=0"


class PairSpeed(NamedTuple):
    """How fast two ranks sent to each other."""

    a: int
    b: int
    bytes_per_second: float


class CollectiveTrial(NamedTuple):
    """One run of point-to-point between every two ranks and all_reduce over all of them."""

    how: str  # AS_GIVEN, NO_P2P …
    outcome: str  # "ok" | "wrong" | "hung" | "error" | "crashed" | "missing"
    step: str = ""  # "start" | "connect" | "point-to-point" | "all_reduce"; where it ended
    ranks: tuple[int, ...] = ()  # that this is about; () = all
    reason: str = ""  # exact words
    version: str | None = None  # of NCCL
    all_reduce: float | None = None  # bus bandwidth, bytes a second
    pairs: tuple[PairSpeed, ...] = ()


class Collective(NamedTuple):
    """What was tried between GPUs, and what came of it; without a trial, nothing was."""

    backend: str  # NCCL | GLOO: on the CPU, which tries the mechanics alone
    ranks: int
    gpus: tuple[int | None, ...] = ()  # the GPU of each rank by its index; None = not known
    trials: tuple[CollectiveTrial, ...] = ()  # AS_GIVEN first
    iommu: bool = False  # the kernel translates what devices write

    def indices(self, ranks: Iterable[int]) -> tuple[int, ...]:
        """Return the GPUs of these ranks; none where not all of them are known."""
        found = [self.gpus[rank] if rank < len(self.gpus) else None for rank in ranks]
        known = tuple(index for index in found if index is not None)
        return known if len(known) == len(found) else ()

    @property
    def given(self) -> CollectiveTrial | None:
        """Return the trial in the user's own environment."""
        return self.trials[0] if self.trials else None

    def cured_by(self, how: str) -> bool:
        """Return whether it is not well as given, and is with this."""
        cured = any(trial.how == how and trial.outcome == "ok" for trial in self.trials)
        return cured and self.trials[0].outcome != "ok"
