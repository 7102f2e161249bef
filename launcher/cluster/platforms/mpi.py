"""mpirun, of whichever MPI: it counts processes, and knows no master.  Pure.

OMPI_COMM_WORLD_NODE_RANK is the rank within a node, not the node's.
"""

from __future__ import annotations

from launcher.cluster.place import MPI_HOSTS, Place, Surroundings, first_set, number, port
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple


class _Names(NamedTuple):
    of: str
    size: str
    rank: str
    here: str  # processes of this node
    one_each: str  # how one process a node is asked for


_KINDS = (
    _Names("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK",
           "OMPI_COMM_WORLD_LOCAL_SIZE", "mpirun --map-by ppr:1:node"),
    _Names("MPICH", "PMI_SIZE", "PMI_RANK", "MPI_LOCALNRANKS", "mpirun -ppn 1"),
)  # fmt: skip
_MASTERS = ("MASTER_ADDR", "AZ_BATCHAI_JOB_MASTER_NODE_IP", "AZ_BATCH_MASTER_NODE")


def read(around: Surroundings) -> Place | None:
    """Return the place of the only process of a node.

    Raises BadSetting where mpirun started several: each would start a whole torchrun.
    """
    environ = around.environ
    for names in _KINDS:
        size, rank = number(environ.get(names.size)), number(environ.get(names.rank))
        here = number(environ.get(names.here))
        if size is None or rank is None or here is None:
            continue
        if here != 1:
            raise BadSetting(
                f"{names.of} started {here} processes on this node ({names.here}), and torchrun "
                f"starts those of a node itself: {names.one_each} launcher torchrun …"
            )
        master, by = _master(around)
        return Place(
            names.of, size, rank, master, port(environ.get("MASTER_PORT")),
            by={"nodes": names.size, "rank": names.rank, "master": by, "port": "MASTER_PORT"},
            no_master="--master-addr=HOST, the host of rank 0 (mpirun -x MASTER_ADDR=HOST)",
        )  # fmt: skip
    return None


def _master(around: Surroundings) -> tuple[str | None, str]:
    name = first_set(around.environ, _MASTERS)
    if name:
        value = around.environ[name].strip()
        return (value.rpartition(":")[0] if name == _MASTERS[-1] else value) or None, name
    path = around.environ.get("OMPI_MCA_orte_default_hostfile", "")
    return _first_host(around.files.get(path) or around.files.get(MPI_HOSTS) or ""), "the host file"


def _first_host(text: str) -> str | None:
    """Return the first host: "h1 slots=8" is Open MPI's, "h1:8" MPICH's and Intel's."""
    for line in text.splitlines():
        if words := line.partition("#")[0].split():
            name, colon, count = words[0].rpartition(":")
            return name if colon and ":" not in name and number(count) is not None else words[0]
    return None
