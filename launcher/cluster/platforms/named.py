"""Platforms that tell a node its place in variables of their own: a row of names each.  Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from launcher.cluster import values
from launcher.cluster.place import Place, Reader, Said
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple

T = TypeVar("T")
_LISTED = r"[A-Za-z0-9_.:\s-]+"


class Names(NamedTuple):
    """Which variables of a platform say what; where several are set they have to agree."""

    platform: str
    nodes: tuple[str, ...]
    rank: tuple[str, ...]
    master: tuple[str, ...]
    port: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    job: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # the address of every node, one a line


# runpod/docs configuration.mdx; skypilot distributed-jobs.rst; dstack executor.go;
# lws.sigs.k8s.io, "Labels, Annotations and Environment Variables".
RUNPOD = Names(
    "RunPod", ("NUM_NODES",), ("NODE_RANK",), ("PRIMARY_ADDR", "MASTER_ADDR"),
    ("PRIMARY_PORT", "MASTER_PORT"), ("NUM_TRAINERS",),
)  # fmt: skip
SKYPILOT = Names(
    "SkyPilot", ("SKYPILOT_NUM_NODES",), ("SKYPILOT_NODE_RANK",), ("SKYPILOT_NODE_IPS",),
    processes=("SKYPILOT_NUM_GPUS_PER_NODE",), job=("SKYPILOT_TASK_ID",),
    hosts=("SKYPILOT_NODE_IPS",),
)  # fmt: skip
DSTACK = Names(
    "dstack", ("DSTACK_NODES_NUM",), ("DSTACK_NODE_RANK",), ("DSTACK_MASTER_NODE_IP",),
    processes=("DSTACK_GPUS_PER_NODE",), hosts=("DSTACK_NODES_IPS",),
)  # fmt: skip
LEADER_WORKER_SET = Names(
    "LeaderWorkerSet", ("LWS_GROUP_SIZE",), ("LWS_WORKER_INDEX",), ("LWS_LEADER_ADDRESS",)
)


def reader_of(names: Names) -> Reader:
    """Return what reads a platform by its row."""
    return lambda around: read_set(around.environ, names)


def read_set(environ: Mapping[str, str], names: Names) -> Place | None:
    """Return what a platform's variables say: its whole set of three, or what is missing of it.

    Raises BadSetting for a value of a whole set that cannot be read, or that another contradicts.
    """
    found = {
        field: [name for name in getattr(names, field) if environ.get(name, "").strip()]
        for field in names._fields[1:]
    }
    by = {field: there[0] for field, there in found.items() if there}
    missing = tuple(
        " or ".join(getattr(names, field)) for field in ("nodes", "rank", "master")
        if not found[field]
    )  # fmt: skip
    if missing:
        return half_of(environ, names.platform, by, missing)
    nodes = _agreed(environ, found["nodes"], values.count)
    rank = _agreed(environ, found["rank"], values.rank)
    if nodes == 1:  # where it is does not matter, and dstack leaves it empty
        return Place(names.platform, nodes, rank, by=by)
    ports = [_port(environ, name) for name in found["port"]]
    notes = [note for port, note in ports if note]
    here = values.number(environ[by["processes"]]) if found["processes"] else None
    return Place(
        names.platform,
        nodes,
        rank,
        _master(environ, found, nodes, by["nodes"]),
        next((port for port, _ in ports if port), None),
        here,
        environ[by["job"]].strip() if found["job"] else None,
        by,
        also=tuple(
            Said(values.platform_host(name, environ[name]), name) for name in found["master"][1:]
        ),
        notes=tuple(notes),
    )


def half_of(
    environ: Mapping[str, str], platform: str, by: Mapping[str, str], missing: tuple[str, ...]
) -> Place | None:
    """Return half a set, where it says that there are several nodes: another than 1, or node 0."""
    alone = {"nodes": 1, "rank": 0}
    said = {
        field: by[field]
        for field, usual in alone.items()
        if field in by and values.number(environ[by[field]]) != usual
    }
    return Place(platform, by=said, missing=missing) if said else None


def _agreed(environ: Mapping[str, str], names: Sequence[str], read: Callable[[str, str], T]) -> T:
    """Return what these variables say.  Raises BadSetting where they say two things."""
    first = read(names[0], environ[names[0]])
    for other in names[1:]:
        if read(other, environ[other]) != first:
            raise BadSetting(
                f"{names[0]}={first} and {other}={read(other, environ[other])}: one of them is "
                f"left from somewhere else; unset it, or say where this node is: {values.PLACE}"
            )
    return first


def _port(environ: Mapping[str, str], name: str) -> tuple[int | None, str]:
    """Return a port, or what is said of what is none."""
    found = values.platform_port(name, environ[name])
    if found is not None:
        return found, ""
    return None, f"{name}={values.quoted(environ[name])} is a Kubernetes Service's and no port"


def _master(
    environ: Mapping[str, str], found: Mapping[str, Sequence[str]], nodes: int, by_nodes: str
) -> str:
    """Return node 0, which is one of those that are listed."""
    listed: list[str] = []
    for name in found["hosts"]:
        listed = environ[name].split()
        if not re.fullmatch(_LISTED, environ[name]):  # ten thousand are not read one by one
            raise values.unreadable(name, environ[name], "addresses, one a line")
        values.hosts(name, listed, nodes, by_nodes)
    name = found["master"][0]
    if name in found["hosts"]:
        return values.platform_host(name, listed[0])
    master = values.platform_host(name, environ[name])
    if listed and master not in listed:
        raise BadSetting(
            f"{name}={master} is none of {found['hosts'][0]}: one of them is left from somewhere "
            f"else; unset it, or say where this node is: {values.PLACE}"
        )
    return master
