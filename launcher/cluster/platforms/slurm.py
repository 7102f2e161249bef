"""Slurm: a step's own variables, since a batch script and salloc's shell are no node.  Pure.

srun(1) and sbatch(1), "OUTPUT ENVIRONMENT VARIABLES".
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.cluster.place import Place, Surroundings, number
from launcher.cluster.platforms.hostlist import read_nodes
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
    environ = around.environ
    if not environ.get("SLURM_JOB_ID"):
        return None
    nodes = number(environ.get("SLURM_STEP_NUM_NODES"))
    if nodes is None:
        _refuse_what_runs_once(environ)
        return None
    tasks = number(environ.get("SLURM_STEP_NUM_TASKS")) or nodes
    if tasks != nodes:
        raise BadSetting(
            f"this Slurm step has {tasks} tasks on {nodes} nodes (SLURM_STEP_NUM_TASKS, "
            "SLURM_STEP_NUM_NODES), and torchrun starts the processes of a node itself: one task a "
            f"node, {_SRUN} (--ntasks-per-node alone is ignored below sbatch --ntasks-per-node=8)"
        )
    listed = _nodes_of(environ, nodes)
    port = _FIRST_PORT + (number(environ["SLURM_JOB_ID"]) or 0) % _PORTS
    return Place(
        "Slurm",
        nodes,
        number(environ.get("SLURM_NODEID")),
        listed,
        port,
        number(environ.get("SLURM_GPUS_ON_NODE")),
        _job(environ),
        _BY,
        notes=_notes(environ, nodes),
    )


def _refuse_what_runs_once(environ: Mapping[str, str]) -> None:
    nodes = number(environ.get("SLURM_JOB_NUM_NODES") or environ.get("SLURM_NNODES")) or 1
    if nodes > 1:
        raise BadSetting(
            f"this is no step of Slurm job {environ['SLURM_JOB_ID']}, which has {nodes} nodes "
            f"(SLURM_JOB_NUM_NODES): a batch script and salloc's shell run once; put srun before "
            f"it: {_SRUN}"
        )


def _nodes_of(environ: Mapping[str, str], nodes: int) -> str:
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
    return listed.first


def _job(environ: Mapping[str, str]) -> str:
    """Return what tells a job from others: a requeue keeps the id, so its count is in it."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return ".".join(environ.get(name) or "0" for name in names)


def _notes(environ: Mapping[str, str], nodes: int) -> tuple[str, ...]:
    whole = number(environ.get("SLURM_JOB_NUM_NODES")) or nodes
    if whole <= nodes:
        return ()
    return (f"this step has {nodes} of the job's {whole} nodes (SLURM_JOB_NUM_NODES)",)
