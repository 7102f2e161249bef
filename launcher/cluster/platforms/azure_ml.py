"""Azure ML, whose PyTorch jobs start their processes themselves, so one a node.  Pure.

learn.microsoft.com, "Distributed GPU training guide"; AZUREML_EXPERIMENT_ID is in each of its jobs.
"""

from __future__ import annotations

from launcher.cluster import values
from launcher.cluster.place import Place, Surroundings, first_set
from launcher.cluster.platforms.named import Names, read_set
from launcher.model.errors import BadSetting

_NODES = ("AZUREML_NODE_COUNT", "WORLD_SIZE")
_RANKS = ("AZUREML_CR_NODE_RANK", "NODE_RANK")
_MASTERS = ("AZ_BATCHAI_JOB_MASTER_NODE_IP", "MASTER_ADDR")


def read(around: Surroundings) -> Place | None:
    """Return the place that it names.

    Raises BadSetting where it started several processes on a node, each a whole torchrun.
    """
    environ = around.environ
    if not environ.get("AZUREML_EXPERIMENT_ID", "").strip():
        return None
    by, world = first_set(environ, _NODES), environ.get("WORLD_SIZE", "").strip()
    if by and world:
        nodes, all_of_them = values.count(by, environ[by]), values.count("WORLD_SIZE", world)
        if all_of_them != nodes:
            raise BadSetting(
                f"Azure ML starts {all_of_them} processes (WORLD_SIZE) on {nodes} nodes ({by}), "
                "and torchrun starts those of a node itself: distribution: "
                "process_count_per_instance: 1"
            )
    names = Names("Azure ML", _NODES, _RANKS, _MASTERS, ("MASTER_PORT",), job=("AZUREML_RUN_ID",))
    return read_set(environ, names)
