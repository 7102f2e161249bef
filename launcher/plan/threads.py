"""Decide how many threads numeric libraries may start.  Pure.

OpenMP, MKL and their kin size their pools from the CPUs that they see and look at no quota: on a
128-CPU machine limited to 8 they start 128 threads, which the kernel then throttles.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.model.machine import Limits
from launcher.model.plan import EnvVar

NAMES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",  # Hugging Face's tokenizers
)
# Whose own variable, where it is set, goes before OMP_NUM_THREADS, and which follow that otherwise
# (PyTorch's "Threading Environment Variables", NumExpr's release notes of 2.4.4).
_FOLLOW_OPENMP = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# A process has several pools, and a job several processes: below this many threads for each
# visible CPU, pthread_create begins to fail (EAGAIN).
_PIDS_PER_CPU = 16


def plan_threads(limits: Limits, devices: int, environ: Mapping[str, str]) -> tuple[EnvVar, ...]:
    """Return the variables, where a limit binds, but for those that the user set.

    Nor is anything set that would overrule the user's OMP_NUM_THREADS.

    Each gets one GPU's share of the usable CPUs, rounded down and at least 1, since the usual job
    runs one process for each GPU.

    Args:
        limits: of the container.
        devices: GPUs that CUDA sees; 0 counts as one process.
    """
    cpus = limits.cpus
    quota_binds = cpus.usable < cpus.allowed
    pids_bind = limits.pids is not None and limits.pids < _PIDS_PER_CPU * cpus.allowed
    if not quota_binds and not pids_bind:
        return ()
    usable = cpus.usable
    limit = f"{cpus.in_words} by quota"
    if limits.pids is not None and pids_bind and limits.pids / _PIDS_PER_CPU < usable:
        usable = limits.pids / _PIDS_PER_CPU
        limit = f"{limits.pids} processes at most"
    processes = max(1, devices)
    threads = max(1, int(usable / processes))
    why = f"{limit}" + (f", shared by {processes} GPUs" if processes > 1 else "")
    settled = {name for name in NAMES if environ.get(name)}
    if "OMP_NUM_THREADS" in settled:
        settled.update(_FOLLOW_OPENMP)
    return tuple(EnvVar(name, str(threads), why) for name in NAMES if name not in settled)
