"""MASTER_ADDR, RANK and WORLD_SIZE: PyTorchJob, Volcano, Alibaba PAI, Baidu AIHC, and others.

Pure.  Half of the platforms count pods with them, half processes; torchrun reads none of them.
Alone they are taken for pods, as those who set nothing else mean them.
"""

from __future__ import annotations

from launcher.cluster import values
from launcher.cluster.place import Place, Surroundings
from launcher.cluster.platforms.named import Names, read_set
from launcher.model.errors import BadSetting

FAMILY = Names(
    "MASTER_ADDR's family", ("WORLD_SIZE",), ("RANK",), ("MASTER_ADDR",), ("MASTER_PORT",),
    ("NPROC_PER_NODE",),
)  # fmt: skip
# Who starts a process for each device itself, by a variable that is in each of them.
_STARTERS = (("TORCHELASTIC_RUN_ID", "torchrun"), ("RAY_JOB_ID", "Ray Train"))


def read(around: Surroundings) -> Place | None:
    """Return the place that they name.

    Raises BadSetting in a process that somebody started for one device.
    """
    _refuse_a_worker(around)
    return read_set(around.environ, FAMILY)


def _refuse_a_worker(around: Surroundings) -> None:
    environ = around.environ
    local = environ.get("LOCAL_RANK", "")
    ours = environ.get("TORCHELASTIC_RUN_ID")
    size = environ.get("LOCAL_WORLD_SIZE", "").strip()
    several = bool(local and size) and values.whole("LOCAL_WORLD_SIZE", size) > 1
    if not ours and not several:
        return
    who = next((name for variable, name in _STARTERS if environ.get(variable)), "somebody")
    raise BadSetting(
        f"{who} started this process already, as one of several (LOCAL_RANK={local[:9]}): torchrun "
        "would start all of them again in each; run the script itself"
    )
