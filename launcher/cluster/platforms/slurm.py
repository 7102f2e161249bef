"""Slurm: a step's own variables, since a batch script and salloc's shell are no node.  Pure.

srun(1) and sbatch(1), "OUTPUT ENVIRONMENT VARIABLES".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from launcher.cluster import values
from launcher.cluster.place import Place, Surroundings
from launcher.cluster.platforms.hostlist import read_nodes
from launcher.cluster.platforms.named import half_of
from launcher.model.errors import BadSetting

# Above Linux's range of ephemeral ports (32768 to 60999), and another for each job.
_FIRST_PORT, _PORTS = 61000, 4536
_SRUN = "srun -N$SLURM_NNODES -n$SLURM_NNODES --ntasks-per-node=1 launcher torchrun …"

_BY = {
    "nodes": "SLURM_STEP_NUM_NODES", "rank": "SLURM_NODEID", "master": "SLURM_STEP_NODELIST",
    "port": "SLURM_JOB_ID", "job": "SLURM_JOB_ID", "processes": "SLURM_GPUS_ON_NODE",
}  # fmt: skip


def read(around: Surroundings) -> Place | None:
    """Return a step's place.

    Raises BadSetting where torchrun would wait for nodes that never start it, or start many times
    on each.
    """
    environ = {name: text.strip() for name, text in around.environ.items()}
    if not environ.get("SLURM_JOB_ID"):
        by = {name: _BY[name] for name in ("nodes", "rank") if environ.get(_BY[name])}
        return half_of(environ, "Slurm", by, ("SLURM_JOB_ID",)) if "nodes" in by else None
    if not environ.get("SLURM_STEP_NUM_NODES"):
        _refuse_what_runs_once(environ)
        return None
    nodes = _read(environ, "SLURM_STEP_NUM_NODES", values.count)
    tasks = _read(environ, "SLURM_STEP_NUM_TASKS", values.whole, str(nodes))
    if tasks != nodes:
        raise BadSetting(
            f"this Slurm step has {tasks} tasks on {nodes} nodes (SLURM_STEP_NUM_TASKS, "
            "SLURM_STEP_NUM_NODES), and torchrun starts the processes of a node itself: one task a "
            f"node, {_SRUN} (--ntasks-per-node alone is ignored below sbatch --ntasks-per-node=8)"
        )
    return Place(
        "Slurm",
        nodes,
        _read(environ, "SLURM_NODEID", values.rank),
        _first_of(environ, nodes),
        _FIRST_PORT + _read(environ, "SLURM_JOB_ID", values.whole) % _PORTS,
        values.number(environ.get("SLURM_GPUS_ON_NODE")),
        _job(environ),
        _BY,
        own=("port",),
        notes=_notes(environ, nodes),
    )


def _read(
    environ: Mapping[str, str], name: str, read: Callable[[str, str], int], absent: str = ""
) -> int:
    return read(name, environ.get(name) or absent)


def _refuse_what_runs_once(environ: Mapping[str, str]) -> None:
    name = "SLURM_JOB_NUM_NODES" if environ.get("SLURM_JOB_NUM_NODES") else "SLURM_NNODES"
    nodes = _read(environ, name, values.count, "1")
    if nodes > 1:
        raise BadSetting(
            f"this is no step of Slurm job {environ['SLURM_JOB_ID'][:20]}, which has {nodes} nodes "
            f"(SLURM_JOB_NUM_NODES): a batch script and salloc's shell run once; put srun before "
            f"it: {_SRUN}"
        )


def _first_of(environ: Mapping[str, str], nodes: int) -> str:
    """Return the first node of the step; the job's list may begin with one outside of it."""
    text = environ.get("SLURM_STEP_NODELIST", "")
    try:
        listed = read_nodes(text)
    except ValueError as part:
        raise BadSetting(
            f"SLURM_STEP_NODELIST={text[:200]!r} cannot be read from {str(part)[:60]!r} on: give "
            "--master-addr=HOST --nnodes=N --node-rank=R"
        ) from None
    if listed.count != nodes:
        raise BadSetting(
            f"SLURM_STEP_NODELIST={text[:200]!r} has {listed.count} nodes and "
            f"SLURM_STEP_NUM_NODES={nodes}: a variable of another job is left; give "
            "--master-addr=HOST --nnodes=N --node-rank=R"
        )
    return values.platform_host("SLURM_STEP_NODELIST", listed.first)


def _job(environ: Mapping[str, str]) -> str:
    """Return what tells a job from others: a requeue keeps the id, so its count is in it."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return ".".join(environ.get(name) or "0" for name in names)


def _notes(environ: Mapping[str, str], nodes: int) -> tuple[str, ...]:
    whole = _read(environ, "SLURM_JOB_NUM_NODES", values.count, str(nodes))
    if whole <= nodes:
        return ()
    return (f"this step has {nodes} of the job's {whole} nodes (SLURM_JOB_NUM_NODES)",)
