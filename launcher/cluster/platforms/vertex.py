"""Vertex AI: CLUSTER_SPEC, whose first pool has the chief.  Pure.

cloud.google.com/vertex-ai, "Distributed training".  Others use that name for something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from launcher.cluster import values
from launcher.cluster.place import Place, Surroundings
from launcher.model.errors import BadSetting

_CHIEF = "workerpool0"
_SHAPE = (
    'Vertex AI\'s JSON, {"cluster": {"workerpool0": ["HOST:PORT"], …}, "task": {"type": '
    '"workerpool0", "index": 0}}'
)


def read(around: Surroundings) -> Place | None:
    """Return the place that it names.

    Raises BadSetting for a number that its pool does not have: it would be another node's rank.
    """
    text = around.environ.get("CLUSTER_SPEC", "")
    if _CHIEF not in text:
        return None
    pools, task = _parsed(text)
    if pools is None:
        return None
    kind, index = str(task.get("type")), values.number(str(task.get("index")))
    if kind not in pools or index is None:
        raise values.unreadable("CLUSTER_SPEC", text, _SHAPE)
    if index >= len(pools[kind]):
        raise BadSetting(
            f"CLUSTER_SPEC says number {index} of {kind}, which has {len(pools[kind])}, from 0: "
            f"{values.PLACE} say which node this is"
        )
    names = sorted(pools)  # workerpool0, workerpool1 …
    every = [one for name in names for one in pools[name]]
    values.hosts("CLUSTER_SPEC", every)
    chief, at = values.split_endpoint(pools[_CHIEF][0])
    return Place(
        "Vertex AI",
        len(every),
        sum(len(pools[name]) for name in names[: names.index(kind)]) + index,
        values.platform_host("CLUSTER_SPEC", chief),
        values.platform_port("CLUSTER_SPEC", at) if at is not None else None,
        by=dict.fromkeys(("nodes", "rank", "master", "port"), "CLUSTER_SPEC"),
    )


def _parsed(text: str) -> tuple[dict[str, list[str]] | None, Mapping[str, object]]:
    """Return the pools and the task; None where it is somebody else's.

    Raises BadSetting for what is Vertex AI's and cannot be read.
    """
    refused = values.unreadable("CLUSTER_SPEC", text, _SHAPE)
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError):
        raise refused from None
    pools = spec.get("cluster") if isinstance(spec, dict) else None
    if not isinstance(pools, dict) or _CHIEF not in pools:
        return None, {}
    task = spec.get("task")
    if not isinstance(task, dict) or not pools[_CHIEF]:
        raise refused
    for pool in pools.values():
        if not isinstance(pool, list) or not all(isinstance(one, str) for one in pool):
            raise refused
    return pools, task
