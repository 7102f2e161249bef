"""The table of platforms, the innermost first: who started us last knows best.  Pure."""

from __future__ import annotations

from launcher.cluster.place import Reader
from launcher.cluster.platforms import (
    azure_ml,
    indexed_job,
    master_addr,
    mpi,
    named,
    sagemaker,
    slurm,
    vertex,
)
from launcher.model.named_tuple import NamedTuple


class Platform(NamedTuple):
    """One row."""

    name: str
    read: Reader
    started_by: tuple[str, ...] = ()  # other rows that may have started it, so say nothing of it


PLATFORMS = (
    # Within a job mpirun starts its daemons by srun, in a step of its own without the first node.
    Platform("mpi", mpi.read, started_by=("slurm", "azure_ml")),
    Platform("slurm", slurm.read),
    Platform("leader_worker_set", named.reader_of(named.LEADER_WORKER_SET)),
    Platform("indexed_job", indexed_job.read),
    Platform("skypilot", named.reader_of(named.SKYPILOT)),
    Platform("dstack", named.reader_of(named.DSTACK)),
    Platform("sagemaker", sagemaker.read),
    Platform("vertex", vertex.read),
    Platform("azure_ml", azure_ml.read),
    Platform("runpod", named.reader_of(named.RUNPOD)),
)
FAMILY = master_addr.read
