"""mpirun, of whichever MPI: it counts processes, and knows no master.  Pure.

OMPI_COMM_WORLD_NODE_RANK is the rank within a node, not the node's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.cluster import values
from launcher.cluster.place import MPI_HOSTS, Place, Surroundings, first_set
from launcher.cluster.platforms.named import half_of
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
    half = None
    for names in _KINDS:
        by = {"nodes": names.size, "rank": names.rank}
        there = [name for name in (*by.values(), names.here) if environ.get(name, "").strip()]
        if len(there) < 3:
            half = half or _half(environ, names, by, there)
            continue
        here = values.whole(names.here, environ[names.here])
        if here != 1:
            raise BadSetting(
                f"{names.of} started {here} processes on this node ({names.here}), and torchrun "
                f"starts those of a node itself: {names.one_each} launcher torchrun …"
            )
        size = values.count(names.size, environ[names.size])
        rank = values.rank(names.rank, environ[names.rank])
        master, by_master = _master(around) if size > 1 else (None, "")
        at = environ.get("MASTER_PORT", "").strip()
        return Place(
            names.of, size, rank, master,
            values.platform_port("MASTER_PORT", at) if at and size > 1 else None,
            by={**by, "master": by_master, "port": "MASTER_PORT"},
            no_master="--master-addr=HOST, the host of rank 0 (mpirun -x MASTER_ADDR=HOST)",
        )  # fmt: skip
    return half


def _half(
    environ: Mapping[str, str], names: _Names, by: Mapping[str, str], there: Sequence[str]
) -> Place | None:
    set_ones = {field: name for field, name in by.items() if name in there}
    missing = tuple(n for n in (names.size, names.rank, names.here) if n not in there)
    return half_of(environ, names.of, set_ones, missing)


def _master(around: Surroundings) -> tuple[str | None, str]:
    name = first_set(around.environ, _MASTERS)
    if name:
        value = around.environ[name].strip()
        host = values.split_endpoint(value)[0] if name == _MASTERS[-1] else value
        return values.platform_host(name, host), name
    path = around.environ.get("OMPI_MCA_orte_default_hostfile", "")
    by = path if around.files.get(path) else MPI_HOSTS
    found = _first_host(around.files.get(by) or "")
    return (values.platform_host(by, found) if found else None), by


def _first_host(text: str) -> str | None:
    """Return the first host: "h1 slots=8" is Open MPI's, "h1:8" MPICH's and Intel's."""
    for line in text.splitlines():
        if words := line.partition("#")[0].split():
            name, colon, count = words[0].rpartition(":")
            return (
                name if colon and ":" not in name and values.number(count) is not None else words[0]
            )
    return None
