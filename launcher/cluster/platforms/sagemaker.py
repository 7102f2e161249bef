"""SageMaker: the variables of its training toolkit, or the file that the platform itself writes.

Pure.  sagemaker-training-toolkit, torch_distributed.py and environment.py.
"""

from __future__ import annotations

import json

from launcher.cluster.place import RESOURCES, Place, Surroundings, number

_PORT = 7777  # the toolkit's


def read(around: Surroundings) -> Place | None:
    environ = around.environ
    hosts, here = _parsed(environ.get("SM_HOSTS", "")), environ.get("SM_CURRENT_HOST")
    by, by_here = "SM_HOSTS", "SM_CURRENT_HOST"
    if hosts is None or here is None:
        config = _parsed(around.files.get(RESOURCES, ""))
        config = config if isinstance(config, dict) else {}
        hosts, here = config.get("hosts"), config.get("current_host")
        by = by_here = RESOURCES
    if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
        return None
    if here not in hosts:
        return None
    return Place(
        "SageMaker",
        len(hosts),
        hosts.index(here),
        hosts[0],
        _PORT,
        number(environ.get("SM_NUM_GPUS")),
        environ.get("TRAINING_JOB_NAME"),
        {"nodes": by, "rank": by_here, "master": by, "processes": "SM_NUM_GPUS",
         "job": "TRAINING_JOB_NAME", "port": "as its toolkit has it"},
    )  # fmt: skip


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
