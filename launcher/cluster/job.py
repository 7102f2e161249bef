"""Which part of which job this node is: what the user said, then the platforms, else one machine.

Pure.  A value that two of them give differently is refused with both: torchrun itself would train
with half of the world, or wait without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from launcher.cluster.place import Place, Surroundings, number, port
from launcher.cluster.platforms import master_addr
from launcher.cluster.platforms.table import FAMILY, PLATFORMS
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple

PORT = 29500  # torchrun's default


class Said(NamedTuple):
    """A value, and who said it: "--nnodes", "PET_NNODES"."""

    value: str
    by: str


# By the names that torchrun's own parser gives them: "nnodes", "node_rank", "master_addr" …
Given = Mapping[str, Said]


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
    place = _place(given, around, processes)
    said = place or Place("")
    least, nodes, by_nodes = _nodes(given, said)
    if least > 1 and "standalone" in given:
        raise BadSetting(
            f"{given['standalone'].by} is one machine, and {by_nodes}={nodes}: leave one out"
        )
    if nodes == 1 and by_nodes:
        _rank(given, said, nodes)
    if nodes == 1 and not {"rdzv_backend", "rdzv_endpoint"} & {*given}:
        return _alone(place, by_nodes)
    rank, by_rank = _rank(given, said, nodes)
    master, by_master = _master(given, said, nodes)
    at, by_port = _port(given, said)
    job, by_job = _job(given, said)
    by = {
        "nodes": by_nodes, "rank": by_rank, "master": by_master, "port": by_port, "job": by_job,
    }  # fmt: skip
    return Job(least, nodes, rank, master, at, job, by, said.platform, said.notes)


def _alone(place: Place | None, by: str) -> Job:
    if place and place.nodes is None and not by:
        count = (
            f"{place.platform} does not say how many nodes there are: this is one of its own; "
            "for one job over all of them set PET_NNODES=N on each"
        )
        return Job(by={"nodes": "one machine"}, platform=place.platform, notes=(count,))
    platform = place.platform if place else ""
    return Job(by={"nodes": by or "one machine"}, platform=platform)


# --- who says it -----------------------------------------------------------------------------


def _place(given: Given, around: Surroundings, processes: int) -> Place | None:
    """Return what the innermost platform says; its whole set, or the little that it has."""
    on_command_line = {name for name, said in given.items() if said.by.startswith("-")}
    decided = "standalone" in given or {"nnodes", "node_rank"} <= on_command_line
    places = [] if decided else [*_from_variables(given), *_from_platforms(around)]
    whole = [place for place in places if None not in (place.nodes, place.rank)]
    for place in whole:
        _refuse_beyond(place)
    for other in whole[1:]:
        if (other.nodes, other.rank) != (whole[0].nodes, whole[0].rank):
            raise BadSetting(_both(whole[0], other))
    if whole:
        _refuse_half(given, whole[0])
    family = None if decided else FAMILY(around)
    if family is None:
        return next((p for p in (*whole, *places) if p.platform != _VARIABLES), None)
    if not whole:
        _refuse_beyond(family)
        return family
    if not master_addr.agrees(family, whole[0], processes):
        raise BadSetting(
            f"{_both(whole[0], family)}; with {processes} processes a node that is neither the "
            "count of nodes nor that of processes"
        )
    return next((p for p in whole if p.platform != _VARIABLES), family)


_VARIABLES = "PET_*"


def _from_variables(given: Given) -> Iterator[Place]:
    """Yield what torchrun's own variables say, where they say node and count."""
    nodes, rank = given.get("nnodes"), given.get("node_rank")
    if nodes and rank and nodes.by.startswith("PET_") and rank.by.startswith("PET_"):
        count = number(nodes.value)
        if count is not None:
            by = {"nodes": nodes.by, "rank": rank.by}
            yield Place(_VARIABLES, count, number(rank.value), by=by)


def _from_platforms(around: Surroundings) -> Iterator[Place]:
    silent: set[str] = set()
    for row in PLATFORMS:
        if row.name not in silent and (place := row.read(around)):
            silent.update(row.started_by)
            yield place


def _refuse_beyond(place: Place) -> None:
    if place.rank is not None and place.nodes is not None and place.rank >= place.nodes:
        raise BadSetting(f"{place.shown}, and ranks begin at 0: one of the two is wrong")


def _refuse_half(given: Given, place: Place) -> None:
    """Hold one of torchrun's own variables alone against what a platform says."""
    for dest, option, here in (
        ("nnodes", "--nnodes", place.nodes), ("node_rank", "--node-rank", place.rank),
    ):  # fmt: skip
        said = given.get(dest)
        if not said or not said.by.startswith("PET_"):
            continue
        if number(said.value) not in (None, here):
            raise BadSetting(
                f"{said.by}={said.value}, but {place.shown}: one of them is left from somewhere "
                f"else; unset {said.by}, or say which is true with {option}=N"
            )


def _both(one: Place, other: Place) -> str:
    return (
        f"{one.shown}, but {other.shown}: one of them is left from somewhere else; unset it, or "
        "say which is true with --nnodes=N --node-rank=R"
    )


# --- the values --------------------------------------------------------------------------------


def _nodes(given: Given, place: Place) -> tuple[int, int, str]:
    said = given.get("nnodes")
    if said is None:
        return (place.nodes or 1, place.nodes or 1, place.by.get("nodes", ""))
    low, colon, high = said.value.partition(":")
    least = number(low)
    most = number(high) if colon else least
    if not least or not most or least > most:
        raise BadSetting(f"{said.by}={said.value[:60]!r}: expected N, or MIN:MAX, from 1")
    return least, most, said.by


def _rank(given: Given, place: Place, nodes: int) -> tuple[int | None, str]:
    said = given.get("node_rank")
    rank, by = (number(said.value), said.by) if said else (place.rank, place.by.get("rank", ""))
    if said and rank is None:
        raise BadSetting(f"{by}={said.value[:60]!r}: expected the number of a node, from 0")
    if rank is not None and rank >= nodes:
        count = given["nnodes"].by if "nnodes" in given else place.by.get("nodes", "nodes")
        raise BadSetting(f"{by}={rank} and {count}={nodes}: the nodes are 0 to {nodes - 1}")
    return rank, by


def _master(given: Given, place: Place, nodes: int) -> tuple[str, str]:
    if "rdzv_endpoint" in given:
        said = given["rdzv_endpoint"]
        return _host(split_endpoint(said.value)[0], said), said.by
    if "master_addr" in given:
        said = given["master_addr"]
        return _host(said.value, said), said.by
    if place.master:
        return place.master.strip("[]"), place.by.get("master", "")
    raise BadSetting(
        f"{nodes} nodes, and nothing says where the first one is: give each {place.no_master}"
    )


def _host(text: str, said: Said) -> str:
    """Return a host without an IPv6 address's brackets, as the resolver takes it."""
    if not (host := text.strip().strip("[]")):
        raise BadSetting(
            f"{said.by}={said.value[:60]!r} names no host (an empty variable of a shell?): "
            "the name or address of node 0"
        )
    return host


def _port(given: Given, place: Place) -> tuple[int, str]:
    endpoint = given.get("rdzv_endpoint")
    if endpoint and (found := split_endpoint(endpoint.value)[1]):
        return found, endpoint.by
    said = given.get("master_port")
    if said:
        if (found := port(said.value)) is None:
            raise BadSetting(f"{said.by}={said.value[:60]!r}: expected a port, 1 to 65535")
        return found, said.by
    return (place.port, place.by.get("port", "")) if place.port else (PORT, "torchrun's default")


def _job(given: Given, place: Place) -> tuple[str | None, str]:
    if "rdzv_id" in given:
        return given["rdzv_id"]
    return place.job, place.by.get("job", "")


def split_endpoint(text: str) -> tuple[str, int | None]:
    """Split "host:port", "[fd00::1]:port" or a bare host."""
    host, colon, at = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return text.strip("[]"), None
    return host.strip("[]"), port(at)
