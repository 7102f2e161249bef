"""Azure ML, whose PyTorch jobs start their processes themselves, so one a node.  Pure.

learn.microsoft.com, "Distributed GPU training guide"; AZUREML_EXPERIMENT_ID is in each of its jobs.
"""

from __future__ import annotations

from launcher.cluster.place import Place, Surroundings, first_set, number, port
from launcher.model.errors import BadSetting

_RANKS = ("AZUREML_CR_NODE_RANK", "NODE_RANK")
_MASTERS = ("AZ_BATCHAI_JOB_MASTER_NODE_IP", "MASTER_ADDR")
_NODES = ("AZUREML_NODE_COUNT", "WORLD_SIZE")


def read(around: Surroundings) -> Place | None:
    environ = around.environ
    if not environ.get("AZUREML_EXPERIMENT_ID"):
        return None
    names = [first_set(environ, names) for names in (_NODES, _RANKS, _MASTERS)]
    if not all(names):
        return None
    by = dict(zip(("nodes", "rank", "master"), map(str, names), strict=True))
    nodes, rank = number(environ[by["nodes"]]), number(environ[by["rank"]])
    if nodes is None or rank is None:
        return None
    world = number(environ.get("WORLD_SIZE"))
    if world is not None and world != nodes:
        raise BadSetting(
            f"Azure ML starts {world} processes (WORLD_SIZE) on {nodes} nodes ({by['nodes']}), and "
            "torchrun starts those of a node itself: distribution: process_count_per_instance: 1"
        )
    return Place(
        "Azure ML",
        nodes,
        rank,
        environ[by["master"]].strip(),
        port(environ.get("MASTER_PORT")),
        job=environ.get("AZUREML_RUN_ID"),
        by={**by, "port": "MASTER_PORT", "job": "AZUREML_RUN_ID"},
    )
