"""Vertex AI: CLUSTER_SPEC, whose first pool has the chief.  Pure.

cloud.google.com/vertex-ai, "Distributed training".  Others use that name for something else.
"""

from __future__ import annotations

import json

from launcher.cluster.place import Place, Surroundings, port
from launcher.model.errors import BadSetting


def read(around: Surroundings) -> Place | None:
    """Return the place that it names.

    Raises BadSetting for a number that its pool does not have: it would be another node's rank.
    """
    try:
        spec = json.loads(around.environ.get("CLUSTER_SPEC", ""))
        pools, task = spec["cluster"], spec["task"]
        names = sorted(pools)  # workerpool0, workerpool1 …
        before, index = names[: names.index(task["type"])], int(task["index"])
        if not 0 <= index < len(pools[task["type"]]):
            raise BadSetting(
                f"CLUSTER_SPEC says number {index} of {task['type']}, which has "
                f"{len(pools[task['type']])}, from 0: --nnodes=N --node-rank=R --master-addr=HOST "
                "say which node this is"
            )
        chief, _, at = pools["workerpool0"][0].rpartition(":")
        return Place(
            "Vertex AI",
            sum(len(pools[name]) for name in names),
            sum(len(pools[name]) for name in before) + index,
            chief,
            port(at),
            by=dict.fromkeys(("nodes", "rank", "master", "port"), "CLUSTER_SPEC"),
        )
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ):
        return None
