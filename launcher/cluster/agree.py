"""Hold what a node's surroundings say of its place against each other.  Pure.

What cannot be true together is refused with both: torchrun itself would train with half of the
world, or wait without a word.  What does no harm is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from launcher.cluster import values
from launcher.cluster.place import Given, Place, Said, Surroundings
from launcher.cluster.platforms import indexed_job, master_addr
from launcher.cluster.platforms.table import FAMILY, PLATFORMS
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple

_VARIABLES = "PET_*"
_LEFT = "one of them is left from somewhere else"


class Master(NamedTuple):
    """Node 0, as a variable has it."""

    host: str
    by: str
    counts: bool = True  # False = of half a set, which is no set


class Heard(NamedTuple):
    """What the surroundings say together."""

    place: Place | None = None  # as the innermost platform has it; None = none does
    masters: tuple[Master, ...] = ()  # every node 0 that a variable of a platform's names
    ports: tuple[Said, ...] = ()  # and every port
    halves: tuple[str, ...] = ()  # what is said of half a set, where nothing says a whole one


def hear(given: Given, around: Surroundings, processes: int) -> Heard:
    """Return what all of them say.

    Args:
        processes: of this node, as they are counted here.

    Raises BadSetting for what contradicts itself.
    """
    typed = {name for name, said in given.items() if said.is_typed}
    if "standalone" in typed or {"nnodes", "node_rank"} <= typed:
        return Heard()
    if "standalone" in given:
        _hold_alone(given["standalone"], around)
        return Heard()
    places = list(_from_platforms(around))
    whole = [*_from_variables(given), *(place for place in places if place.is_whole)]
    for place in whole:
        if place.rank is not None and place.nodes is not None and place.rank >= place.nodes:
            raise BadSetting(f"{place.shown}, and ranks begin at 0: one of the two is wrong")
    each = dict.fromkeys((processes, *(one.processes for one in whole if one.processes)))
    count = _Count(tuple(each), any_number="nproc_per_node" in typed)
    for other in whole[1:]:
        _refuse_other(whole[0], other, count)
    for place in whole:
        _hold_half(given, place, count)
    _hold_index(given, places, whole, around, count)
    platforms = [place for place in whole if place.platform != _VARIABLES]
    unfinished = [place for place in places if place.nodes is None and not place.missing]
    return Heard(
        next(iter((*platforms, *unfinished)), None),
        tuple(_masters(whole, around)),
        tuple(
            Said(str(one.port), one.by["port"])
            for one in platforms if one.port and "port" not in one.own
        ),
        tuple(_halves(places, around)) if not whole and "nnodes" not in given else (),
    )  # fmt: skip


# --- who says it -----------------------------------------------------------------------------


def _from_variables(given: Given) -> Iterator[Place]:
    """Yield what torchrun's own variables say, where they say node and count."""
    nodes, rank = given.get("nnodes"), given.get("node_rank")
    if nodes and rank and not nodes.is_typed and not rank.is_typed:
        count, place = values.number(nodes.value), values.number(rank.value)
        if count is not None and place is not None:
            yield Place(_VARIABLES, count, place, by={"nodes": nodes.by, "rank": rank.by})


def _from_platforms(around: Surroundings) -> Iterator[Place]:
    silent: set[str] = set()
    for row in PLATFORMS:
        if row.name not in silent and (place := row.read(around)):
            if not place.missing:
                silent.update(row.started_by)
            yield place
    if family := FAMILY(around):
        yield family


# --- nodes and ranks ---------------------------------------------------------------------------


class _Count(NamedTuple):
    """How many processes a node has, by whoever counts them; any, where the user chose."""

    each: tuple[int, ...]
    any_number: bool = False

    def fits(self, all_of_them: int, nodes: int) -> bool:
        """Return whether so many may be the nodes, or their processes."""
        whole = self.any_number and nodes > 0 and all_of_them % nodes == 0
        return whole or all_of_them in (nodes, *(nodes * each for each in self.each))

    def fits_some(self, all_of_them: int, least: int, most: int) -> bool:
        """Return whether so many may be the processes of as many nodes as lie between the two."""
        if self.any_number and least == most:
            return self.fits(all_of_them, least)
        few = self.any_number and least <= all_of_them
        return few or any(least <= all_of_them / each <= most for each in self.each)

    def first(self, rank: int, node: int) -> bool:
        """Return whether a rank may be a node's number, or that of its first process."""
        whole = self.any_number and (rank % node == 0 if node else rank == 0)
        return whole or rank in (node, *(node * each for each in self.each))


def _is_family(place: Place) -> bool:
    return place.platform == master_addr.FAMILY.platform


def _refuse_other(one: Place, other: Place, count: _Count) -> None:
    """Refuse two that disagree.  PyTorchJob counts processes in WORLD_SIZE and pods in RANK."""
    if (one.nodes, one.rank) == (other.nodes, other.rank):
        return
    both = (
        f"{one.shown}, but {other.shown}: {_LEFT}; unset it, or say which is true with --nnodes=N "
        "--node-rank=R"
    )
    if not _is_family(other):
        raise BadSetting(both)
    if not count.fits(other.nodes or 0, one.nodes or 0) or not count.first(
        other.rank or 0, one.rank or 0
    ):
        raise BadSetting(
            f"{both}; with {count.each[0]} processes a node that is neither the count of nodes nor "
            "that of processes"
        )


def _hold_half(given: Given, place: Place, count: _Count) -> None:
    """Hold what torchrun's own variables say, one of them alone too, against a platform."""
    said = given.get("nnodes")
    if said and not said.is_typed and place.nodes is not None:
        low, colon, high = said.value.partition(":")
        least, most = values.number(low), values.number(high if colon else low)
        if least is not None and most is not None:
            fit = least <= place.nodes <= most
            if not fit and _is_family(place):
                fit = count.fits_some(place.nodes, least, most)
            if not fit:
                raise _contradicts(said, place, "--nnodes=N")
    said = given.get("node_rank")
    rank = values.number(said.value) if said else None
    if said and not said.is_typed and rank is not None and place.rank is not None:
        fit = count.first(place.rank, rank) if _is_family(place) else place.rank == rank
        if not fit:
            raise _contradicts(said, place, "--node-rank=N")


def _hold_alone(said: Said, around: Surroundings) -> None:
    """Hold PET_STANDALONE against the platforms."""
    try:
        places = list(_from_platforms(around))
    except BadSetting:  # a batch script that runs once, a value that cannot be read
        return
    for place in places:
        if place.is_whole and (place.nodes or 0) > 1:
            raise _contradicts(said, place, "--standalone")


def _contradicts(said: Said, place: Place, how: str) -> BadSetting:
    return BadSetting(
        f"{said.by}={said.value}, but {place.shown}: {_LEFT}; unset {said.by}, or say which is "
        f"true with {how}"
    )


def _hold_index(
    given: Given, places: Sequence[Place], whole: Sequence[Place], around: Surroundings,
    count: _Count,
) -> None:  # fmt: skip
    """Hold a pod's number in its Job against its number in the job.

    In a set of several Jobs the latter is larger; in one Job both are the same.
    """
    index = next((one for one in places if indexed_job.INDEX in one.by.values()), None)
    said = given.get("node_rank")
    nodes = given["nnodes"].value if "nnodes" in given else ""
    several = nodes not in ("", "1") or any((one.nodes or 0) > 1 for one in whole)
    if index is None or index.rank is None or not several or (said and said.is_typed):
        return
    rank, by = (values.number(said.value), said.by) if said else (None, "")
    if rank is None and whole:
        rank, by = whole[0].rank, whole[0].by["rank"]
    of_processes = by == "RANK" and rank is not None and count.first(rank, index.rank)
    if rank in (None, index.rank) or of_processes:
        return
    if (
        rank is None
        or rank < index.rank
        or not indexed_job.is_of_a_set(around.hostname, index.rank)
    ):
        raise BadSetting(
            f"{by}={rank}, but {indexed_job.INDEX}={index.rank}: two pods would have one number, "
            f"or none has it; unset {by}, or say which is true with --node-rank=N"
        )


# --- what is said beside -------------------------------------------------------------------------


def _masters(whole: Sequence[Place], around: Surroundings) -> Iterator[Master]:
    told = set()
    for place in whole:
        if place.master and "master" not in place.own:
            for host, by in (Said(place.master, place.by["master"]), *place.also):
                told.add(by)
                yield Master(host, by)
    alone = values.host(around.environ.get("MASTER_ADDR", ""))
    if alone and "MASTER_ADDR" not in told:
        yield Master(alone, "MASTER_ADDR", counts=False)


def _halves(places: Sequence[Place], around: Surroundings) -> Iterator[str]:
    for place in places:
        if place.missing:
            name = next(iter(place.by.values()))
            yield (
                f"{name}={values.quoted(around.environ[name])} is half of what says a node's "
                f"place, without {' and '.join(place.missing)}: this is one machine"
            )


def hold_masters(
    chosen: Master, others: Sequence[Master], addresses: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """Yield what is said of another node 0 that may be the same host.

    Args:
        addresses: what each name and address stands for, as far as somebody knew it.

    Raises BadSetting for one that is another host.
    """
    for other in others:
        same = values.are_one_host(chosen.host, other.host)
        own, theirs = (set(addresses.get(one.host, ())) for one in (chosen, other))
        if same or own & theirs:
            continue
        if same is False and other.counts:
            raise BadSetting(
                f"{chosen.by} says that node 0 is {chosen.host}, but {other.by} says {other.host}: "
                f"{_LEFT}; unset it, or say which is true with --master-addr=HOST"
            )
        yield f"{other.by}={other.host} is not looked at: node 0 is {chosen.host} ({chosen.by})"
