"""Vertex AI: CLUSTER_SPEC, whose first pool has the chief.  Pure.

cloud.google.com/vertex-ai, "Distributed training".  Others use that name for something else.
"""

from __future__ import annotations

import json

from launcher.cluster.place import Place, Surroundings, port


def read(around: Surroundings) -> Place | None:
    try:
        spec = json.loads(around.environ.get("CLUSTER_SPEC", ""))
        pools, task = spec["cluster"], spec["task"]
        names = sorted(pools)  # workerpool0, workerpool1 …
        before = names[: names.index(task["type"])]
        chief, _, at = pools["workerpool0"][0].rpartition(":")
        return Place(
            "Vertex AI",
            sum(len(pools[name]) for name in names),
            sum(len(pools[name]) for name in before) + int(task["index"]),
            chief,
            port(at),
            by=dict.fromkeys(("nodes", "rank", "master", "port"), "CLUSTER_SPEC"),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
