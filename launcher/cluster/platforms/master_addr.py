"""MASTER_ADDR, RANK and WORLD_SIZE: PyTorchJob, Volcano, Alibaba PAI, Baidu AIHC, and others.

Pure.  Half of the platforms count pods with them, half processes; torchrun reads none of them.
Alone they are taken for pods, as those who set nothing else mean them.
"""

from __future__ import annotations

from launcher.cluster.place import Place, Surroundings, number, port
from launcher.model.errors import BadSetting

_PLATFORM = "MASTER_ADDR's family"
# Who starts a process for each device itself, by a variable that is in each of them.
_STARTERS = (("TORCHELASTIC_RUN_ID", "torchrun"), ("RAY_JOB_ID", "Ray Train"))


def read(around: Surroundings) -> Place | None:
    """Return the place that they name.

    Raises BadSetting in a process that somebody started for one device.
    """
    environ = around.environ
    _refuse_a_worker(around)
    rank, nodes = number(environ.get("RANK")), number(environ.get("WORLD_SIZE"))
    master = environ.get("MASTER_ADDR", "").strip()
    if rank is None or nodes is None or not master:
        return None
    return Place(
        _PLATFORM,
        nodes,
        rank,
        master,
        port(environ.get("MASTER_PORT")),
        number(environ.get("NPROC_PER_NODE")),
        by={"nodes": "WORLD_SIZE", "rank": "RANK", "master": "MASTER_ADDR", "port": "MASTER_PORT",
            "processes": "NPROC_PER_NODE"},
    )  # fmt: skip


def agrees(family: Place, other: Place, processes: int) -> bool:
    """Return whether the three fit what another said, counting nodes or processes.

    PyTorchJob counts processes in WORLD_SIZE and pods in RANK.
    """
    if (family.nodes, family.rank) == (other.nodes, other.rank):
        return True
    if other.nodes is None or other.rank is None:
        return False
    ranks = (other.rank, other.rank * processes)
    return family.nodes == other.nodes * processes and family.rank in ranks


def _refuse_a_worker(around: Surroundings) -> None:
    environ = around.environ
    several = (number(environ.get("LOCAL_WORLD_SIZE")) or 0) > 1
    ours = environ.get("TORCHELASTIC_RUN_ID")
    if not ours and not (several and environ.get("LOCAL_RANK")):
        return
    who = next((name for variable, name in _STARTERS if environ.get(variable)), "somebody")
    raise BadSetting(
        f"{who} started this process already, as one of several (LOCAL_RANK="
        f"{environ.get('LOCAL_RANK', '')[:9]}): torchrun would start all of them again in each; "
        "run the script itself"
    )
