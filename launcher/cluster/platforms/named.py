"""Platforms that tell a node its place in variables of their own: a row of names each.  Pure."""

from __future__ import annotations

from collections.abc import Callable

from launcher.cluster.place import Place, Reader, Surroundings, first_set, number, port
from launcher.model.named_tuple import NamedTuple


class Names(NamedTuple):
    """Which variables of a platform say what; of several the first that is set counts."""

    platform: str
    nodes: tuple[str, ...]
    rank: tuple[str, ...]
    master: tuple[str, ...]
    port: tuple[str, ...] = ()
    processes: tuple[str, ...] = ()
    job: tuple[str, ...] = ()


# runpod/docs configuration.mdx; skypilot distributed-jobs.rst; dstack executor.go;
# lws.sigs.k8s.io, "Labels, Annotations and Environment Variables".
RUNPOD = Names(
    "RunPod", ("NUM_NODES",), ("NODE_RANK",), ("PRIMARY_ADDR", "MASTER_ADDR"),
    ("PRIMARY_PORT", "MASTER_PORT"), ("NUM_TRAINERS",),
)  # fmt: skip
SKYPILOT = Names(
    "SkyPilot", ("SKYPILOT_NUM_NODES",), ("SKYPILOT_NODE_RANK",), ("SKYPILOT_NODE_IPS",),
    processes=("SKYPILOT_NUM_GPUS_PER_NODE",), job=("SKYPILOT_TASK_ID",),
)  # fmt: skip
DSTACK = Names(
    "dstack", ("DSTACK_NODES_NUM",), ("DSTACK_NODE_RANK",), ("DSTACK_MASTER_NODE_IP",),
    processes=("DSTACK_GPUS_PER_NODE",),
)  # fmt: skip
LEADER_WORKER_SET = Names(
    "LeaderWorkerSet", ("LWS_GROUP_SIZE",), ("LWS_WORKER_INDEX",), ("LWS_LEADER_ADDRESS",)
)


def reader_of(names: Names) -> Reader:
    """Return what reads a platform by its row: its whole set of three, or nothing."""

    def read(around: Surroundings) -> Place | None:
        environ = around.environ
        found = {
            field: name
            for field in ("nodes", "rank", "master", "port", "processes", "job")
            if (name := first_set(environ, getattr(names, field)))
        }

        def value_of(field: str, parse: Callable[[str | None], int | None]) -> int | None:
            return parse(environ[found[field]].strip()) if field in found else None

        nodes, rank = value_of("nodes", number), value_of("rank", number)
        if nodes is None or rank is None or "master" not in found:
            return None
        return Place(
            names.platform,
            nodes,
            rank,
            environ[found["master"]].split()[0],  # SkyPilot's has every address, one a line
            value_of("port", port),
            value_of("processes", number),
            environ[found["job"]] if "job" in found else None,
            found,
        )

    return read
