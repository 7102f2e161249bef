"""torchrun's arguments for a job, each with its reason.  Pure.

`static` where rank, count and master are known: rank 0 is the master, the port is the one named, a
late node has 900 s, and neither clocks nor host names have to agree.  c10d waits 60 s for its host,
publishes a host name and a random port, and takes a node whose clock is 15 s behind for dead: only
for elasticity, where ranks start anew, or where no rank is known
(torch.distributed.elastic.rendezvous).

static has one round of nodes.  The node whose rank died starts it anew, and with gloo it finds the
addresses of the round before: of three jobs of two nodes with --max-restarts=1 (PyTorch 2.13) one
went on, one failed and one hung; with c10d five of five went on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from launcher.cluster.job import Job, starts_anew
from launcher.cluster.place import Given
from launcher.detect.hosts import is_loopback
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple

_LATE = 600  # seconds that a c10d client waits for its host; its own 60 are less than a pull takes
# torchrun keeps one store for all rounds of ranks, with the addresses of those before: a rank that
# is earlier than another reads its old one, and waits for it until the process group's half an hour
# is over (dynamic_rendezvous.py, _shared_tcp_store_server).  With this each round has its own.
_SHARED = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
_PLACES = {"rdzv_backend", "rdzv_endpoint", "master_addr", "master_port", "standalone"}


class Choice(NamedTuple):
    """An argument of torchrun's ("--nnodes") or a variable, and why it is that."""

    name: str
    value: str  # "" = an option without one
    why: str

    @property
    def word(self) -> str:
        return f"{self.name}={self.value}" if self.value else self.name


class Reach(NamedTuple):
    """How this node reaches the master; None = not known."""

    address: str | None = None  # its own, towards the master
    is_master: bool | None = None  # the master's address is one of its own
    own_name_is_known: bool = True  # its host name is an address of its own


def choose_arguments(job: Job, given: Given, processes: Choice, reach: Reach) -> tuple[Choice, ...]:
    """Return the arguments that the user did not give.

    Raises BadSetting where the user's own way to meet needs a rank that nothing says.
    """
    found = [processes, *_rendezvous(job, given, reach)]
    return tuple(one for one in found if _dest(one) not in given or _is_merged(one))


def _dest(choice: Choice) -> str:
    return choice.name.removeprefix("--").replace("-", "_")


def _is_merged(choice: Choice) -> bool:
    return choice.name == "--rdzv-conf"


def _rendezvous(job: Job, given: Given, reach: Reach) -> Iterator[Choice]:
    if job.nodes == 1 and not given.keys() & _PLACES:
        yield Choice("--standalone", "", f"{job.by['nodes']}: a port of this machine that is free")
    if job.nodes == 1:
        if not reach.own_name_is_known and "local_addr" not in given:
            yield Choice("--local-addr", "localhost", "this host's own name has no address")
        return
    yield Choice("--nnodes", _range(job), job.by["nodes"])
    if uses_c10d(job, given):
        yield from _c10d(job, given, reach)
        return
    if job.rank is not None:
        yield Choice("--node-rank", str(job.rank), job.by["rank"])
    elif given["rdzv_backend"].value == "static":  # etcd's give ranks themselves
        raise BadSetting(
            f"{given['rdzv_backend'].by}=static, and nothing says which node this is: give each "
            "--node-rank=R, from 0; or leave the backend out, and c10d numbers them"
        )
    if "rdzv_endpoint" in given:
        return
    yield Choice("--master-addr", str(job.master), job.by["master"])
    yield Choice("--master-port", str(job.port), job.by["port"])


def choose_variables(job: Job, given: Given, environ: Mapping[str, str]) -> Iterator[Choice]:
    """Yield what torchrun needs for ranks that it may start anew, unless the user has it."""
    anew = uses_c10d(job, given) if job.nodes > 1 else starts_anew(given)
    if anew and _SHARED not in environ:
        why = "ranks that start anew would wait for the addresses of those before"
        yield Choice(_SHARED, "1", why)


def uses_c10d(job: Job, given: Given) -> bool:
    """Return whether the nodes find each other by c10d."""
    if "rdzv_backend" in given:
        return given["rdzv_backend"].value == "c10d"
    return job.is_elastic or job.rank is None or starts_anew(given)


def notes(job: Job, given: Given, reach: Reach) -> Iterator[str]:
    """Yield why the nodes may not find each other, as far as it can be told from this one."""
    if job.nodes > 1 and job.master:
        said = f"{job.by['master']}={job.master}"
        if job.master == "localhost" or is_loopback(job.master):
            yield (
                f"{said} is each machine's own address: nodes on other machines do not find node 0 "
                "by it"
            )
        elif job.rank == 0 and reach.is_master is False:
            yield (
                f"this is node 0, and {said} is none of its addresses: the others may go elsewhere"
            )
    if job.nodes > 1 and starts_anew(given) and not uses_c10d(job, given):
        backend = given["rdzv_backend"]
        if backend.value == "static":
            yield (
                f"{given['max_restarts'].by} and {backend.by}=static: the nodes do not meet anew, "
                "so a rank that starts again may hang; leave the backend out"
            )


def _c10d(job: Job, given: Given, reach: Reach) -> Iterator[Choice]:
    yield Choice("--rdzv-backend", "c10d", _why_c10d(job))
    host = f"[{job.master}]" if ":" in str(job.master) else job.master
    yield Choice("--rdzv-endpoint", f"{host}:{job.port}", job.by["master"])
    if job.job:
        yield Choice("--rdzv-id", job.job, job.by["job"])
    if reach.address:
        why = "its own address towards the master, where torchrun would tell the others a name"
        yield Choice("--local-addr", reach.address, why)
    conf = {"read_timeout": str(_LATE)}
    hosts = reach.is_master
    if job.rank is not None and "rdzv_endpoint" not in given:  # several may share an address
        hosts = job.rank == 0
    if hosts is not None:
        conf["is_host"] = str(int(hosts))
    said = given["rdzv_conf"].value if "rdzv_conf" in given else ""
    theirs = {pair.partition("=")[0].strip() for pair in said.split(",")}
    ours = [f"{name}={value}" for name, value in conf.items() if name not in theirs]
    if ours:
        why = "who hosts, by address and not by name; and a host that starts late is waited for"
        yield Choice("--rdzv-conf", ",".join(filter(None, [said, *ours])), why)


def _why_c10d(job: Job) -> str:
    if job.is_elastic:
        return "the number of nodes may change"
    if job.rank is None:
        return "no rank of this node is known"
    return "ranks that start anew (--max-restarts) meet anew; it numbers the nodes itself"


def _range(job: Job) -> str:
    return f"{job.least}:{job.nodes}" if job.is_elastic else str(job.nodes)
