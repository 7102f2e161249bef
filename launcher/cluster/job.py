"""Which part of which job this node is: what the user said, then the platforms, else one machine.

Pure.  A value that two of them give differently is refused with both: torchrun itself would train
with half of the world, or wait without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from launcher.cluster import agree, values
from launcher.cluster.agree import Heard, Master
from launcher.cluster.place import Given, Place, Said, Surroundings
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple

PORT = 29500  # torchrun's default
_C10D_PORT = 29400  # and where an endpoint of c10d's says none


class Job(NamedTuple):
    """This node's part.  `by` says of each field who gave it."""

    least: int = 1  # nodes with which it may begin
    nodes: int = 1  # at most
    rank: int | None = None
    master: str | None = None
    port: int = PORT
    job: str | None = None
    by: Mapping[str, str] = {}
    platform: str = ""
    others: tuple[Master, ...] = ()  # node 0, as other variables have it
    notes: tuple[str, ...] = ()

    @property
    def is_elastic(self) -> bool:
        return self.least < self.nodes


def find_job(given: Given, around: Surroundings, processes: int) -> Job:
    """Return this node's part.

    Args:
        processes: of this node, as they are counted here.

    Raises BadSetting for what contradicts itself, and for a job of several nodes that does not say
    where the first one is.
    """
    heard = agree.hear(given, around, processes)
    place = heard.place
    said = place or Place("")
    least, nodes, by_nodes = _nodes(given, said)
    if least > 1 and "standalone" in given:
        raise BadSetting(
            f"{given['standalone'].by} is one machine, and {by_nodes}={nodes}: leave one out"
        )
    rank, by_rank = _rank(given, said, nodes, by_nodes)
    at, by_port = _port(given, said, nodes, _is_c10d(given, least, nodes, rank))
    if nodes == 1 and not {"rdzv_backend", "rdzv_endpoint"} & {*given}:
        return _alone(place, by_nodes, heard.halves)
    master, by_master = _master(given, said, nodes)
    job, by_job = _job(given, said)
    by = {
        "nodes": by_nodes, "rank": by_rank, "master": by_master, "port": by_port, "job": by_job,
    }  # fmt: skip
    several = nodes > 1
    return Job(
        least, nodes, rank, master, at, job, by, said.platform,
        tuple(_others(given, heard)) if several else (),
        (*said.notes, *(_notes(given, heard, processes, at, by_port) if several else ())),
    )  # fmt: skip


def _alone(place: Place | None, by: str, halves: tuple[str, ...]) -> Job:
    if place and place.nodes is None and not by:
        count = (
            f"{place.platform} does not say how many nodes there are: this is one of its own; "
            "for one job over all of them set PET_NNODES=N on each"
        )
        return Job(by={"nodes": "one machine"}, platform=place.platform, notes=(count,))
    platform = place.platform if place else ""
    return Job(by={"nodes": by or "one machine"}, platform=platform, notes=halves)


def _others(given: Given, heard: Heard) -> Iterator[Master]:
    """Yield who else says where node 0 is; nobody, where the user says it."""
    said = [given[dest] for dest in ("rdzv_endpoint", "master_addr") if dest in given]
    if not any(one.is_typed for one in said):
        for one in said:
            if host := values.host(_host_of(one)):
                yield Master(host, one.by)
        yield from heard.masters


def _notes(given: Given, heard: Heard, processes: int, port: int, by_port: str) -> Iterator[str]:
    """Yield what the surroundings say that does no harm."""
    place = heard.place or Place("")
    if place.processes not in (None, 0, processes) and "nproc_per_node" not in given:
        yield (
            f"{place.by['processes']}={place.processes}, and what CUDA sees here makes {processes} "
            f"process{'es' * (processes != 1)}: launcher doctor, where GPUs are missing"
        )
    typed = any(given[dest].is_typed for dest in ("rdzv_endpoint", "master_port") if dest in given)
    for value, by in () if typed else dict.fromkeys(heard.ports):
        if int(value) != port:
            yield f"{by}={value} is not looked at: the nodes meet at port {port} ({by_port})"


# --- the values --------------------------------------------------------------------------------


def _nodes(given: Given, place: Place) -> tuple[int, int, str]:
    said = given.get("nnodes")
    if said is None:
        return (place.nodes or 1, place.nodes or 1, place.by.get("nodes", ""))
    low, colon, high = said.value.partition(":")
    least = values.number(low)
    most = values.number(high) if colon else least
    if not least or not most or not least <= most <= values.MOST:
        raise BadSetting(
            f"{said.by}={values.quoted(said.value)}: expected N, or MIN:MAX, 1 to {values.MOST}"
        )
    return least, most, said.by


def _rank(given: Given, place: Place, nodes: int, by_nodes: str) -> tuple[int | None, str]:
    said = given.get("node_rank")
    rank = values.number(said.value) if said else place.rank
    by = said.by if said else place.by.get("rank", "")
    if said and rank is None:
        raise BadSetting(f"{by}={values.quoted(said.value)}: expected the number of a node, from 0")
    if not said and place.nodes is None and nodes == 1:  # a pod of an Indexed Job of single ones
        return None, ""
    if rank is None or rank < nodes:
        return rank, by
    if not by_nodes:
        raise BadSetting(f"{by}={rank}, and nothing says how many nodes there are: --nnodes=N")
    raise BadSetting(f"{by}={rank} and {by_nodes}={nodes}: the nodes are 0 to {nodes - 1}")


def _master(given: Given, place: Place, nodes: int) -> tuple[str, str]:
    for dest in ("rdzv_endpoint", "master_addr"):
        if dest in given:
            return _host(given[dest], dest == "rdzv_endpoint"), given[dest].by
    if place.master:
        return place.master, place.by.get("master", "")
    raise BadSetting(
        f"{nodes} nodes, and nothing says where the first one is: give each {place.no_master}"
    )


def _host(said: Said, is_endpoint: bool) -> str:
    text = _host_of(said) if is_endpoint else said.value
    if not text.strip().strip("[]"):
        raise BadSetting(
            f"{said.by}={values.quoted(said.value)} names no host (an empty variable of a shell?): "
            "the name or address of node 0"
        )
    if (found := values.host(text)) is None:
        accepts = (
            "HOST:PORT, an IPv6 address in brackets: [fd00::1]:29400" if is_endpoint
            else "a host's name or address, without a port"
        )  # fmt: skip
        raise BadSetting(f"{said.by}={values.quoted(said.value)}: expected {accepts}")
    return found


def _host_of(said: Said) -> str:
    is_endpoint = said.by in ("--rdzv-endpoint", "PET_RDZV_ENDPOINT")
    return values.split_endpoint(said.value)[0] if is_endpoint else said.value


def _port(given: Given, place: Place, nodes: int, is_c10d: bool) -> tuple[int, str]:
    """Return where node 0 listens; 0 = a free one, which torchrun takes on one machine alone."""
    if "rdzv_endpoint" in given:
        return _port_of(given["rdzv_endpoint"], nodes, is_c10d)
    said = given.get("master_port")
    if said:
        found = values.port(said.value)
        if found is None and not (nodes == 1 and values.number(said.value) == 0):
            raise BadSetting(f"{said.by}={values.quoted(said.value)}: expected a port, 1 to 65535")
        return found or 0, said.by
    return (place.port, place.by.get("port", "")) if place.port else (PORT, "torchrun's default")


def _port_of(said: Said, nodes: int, is_c10d: bool) -> tuple[int, str]:
    """Return an endpoint's port, as torchrun reads it."""
    text = values.split_endpoint(said.value)[1]
    if text is None and is_c10d:
        return _C10D_PORT, "torchrun's default for c10d"
    found = values.number(text) if text == (text or "").strip() else None
    if found is None or found > 65535 or (found == 0 and nodes > 1):
        raise BadSetting(
            f"{said.by}={values.quoted(said.value)}: expected HOST:PORT, a port of 1 to 65535"
        )
    return found, said.by


def starts_anew(given: Given) -> bool:
    """Return whether ranks that died shall be started again."""
    return "max_restarts" in given and given["max_restarts"].value.strip() not in ("", "0")


def _is_c10d(given: Given, least: int, nodes: int, rank: int | None) -> bool:
    """Return whether an endpoint needs no port: of c10d, and of etcd, which has one of its own."""
    if "rdzv_backend" in given:
        return given["rdzv_backend"].value != "static"
    return least < nodes or rank is None or starts_anew(given)


def _job(given: Given, place: Place) -> tuple[str | None, str]:
    if "rdzv_id" in given:
        return given["rdzv_id"]
    return place.job, place.by.get("job", "")
