"""Where a node is in a job, as one platform says it.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from launcher.model.named_tuple import NamedTuple


class Said(NamedTuple):
    """A value, and who said it: "--nnodes", "PET_NNODES"."""

    value: str
    by: str

    @property
    def is_typed(self) -> bool:
        return self.by.startswith("-")


# By the names that torchrun's own parser gives them: "nnodes", "node_rank", "master_addr" …
Given = Mapping[str, Said]


class Surroundings(NamedTuple):
    """What a platform may have left for a node to read."""

    environ: Mapping[str, str]
    hostname: str = ""
    files: Mapping[str, str] = {}  # the text of each of `FILES` that is there, by its path


class Place(NamedTuple):
    """What one platform says.  None = it does not; `by` has the variables of what it does."""

    platform: str
    nodes: int | None = None
    rank: int | None = None  # of this node, from 0
    master: str | None = None  # the name or address of node 0
    port: int | None = None  # on node 0
    processes: int | None = None  # a node, where it counts them
    job: str | None = None  # what tells this job from others
    by: Mapping[str, str] = {}  # field → the variables
    own: tuple[str, ...] = ()  # fields that no variable says: worked out of others
    also: tuple[Said, ...] = ()  # other variables of the same platform that name node 0
    missing: tuple[str, ...] = ()  # variables, without which it is half a set and no place
    no_master: str = "--master-addr=HOST, the name or address of node 0"  # what to give it with
    notes: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        return not self.missing and None not in (self.nodes, self.rank)

    @property
    def shown(self) -> str:
        """Return "Slurm says node 1 of 4 (SLURM_NODEID=1, SLURM_STEP_NUM_NODES=4)"."""
        values = (("rank", self.rank), ("nodes", self.nodes))
        said = ", ".join(f"{self.by[field]}={value}" for field, value in values if field in self.by)
        return f"{self.platform} says node {self.rank} of {self.nodes} ({said})"


Reader = Callable[[Surroundings], Place | None]

HOSTS = "/etc/hosts"
RESOURCES = "/opt/ml/input/config/resourceconfig.json"  # SageMaker's
MPI_HOSTS = "/etc/mpi/hostfile"  # of Kubeflow's MPI operator
FILES = (HOSTS, RESOURCES, MPI_HOSTS)


def first_set(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """Return the first of these variables that says something."""
    return next((name for name in names if environ.get(name, "").strip()), None)
