"""SageMaker: the variables of its training toolkit, or the file that the platform itself writes.

Pure.  sagemaker-training-toolkit, torch_distributed.py and environment.py.
"""

from __future__ import annotations

import json

from launcher.cluster import values
from launcher.cluster.place import RESOURCES, Place, Surroundings
from launcher.cluster.platforms.named import half_of
from launcher.model.errors import BadSetting

_PORT = 7777  # the toolkit's
_HOSTS, _HERE = "SM_HOSTS", "SM_CURRENT_HOST"


def read(around: Surroundings) -> Place | None:
    """Return the place that its list of hosts has for this one.

    Raises BadSetting where it has none, or two.
    """
    environ = around.environ
    text, here = environ.get(_HOSTS, "").strip(), environ.get(_HERE, "").strip()
    toolkit = None
    if text and here:
        toolkit = _place(around, _list(_HOSTS, text, _parsed(text)), here, _HOSTS, _HERE)
    platform = _in_file(around)
    if toolkit and platform and toolkit[1:3] != platform[1:3]:
        raise BadSetting(
            f"{toolkit.shown}, but {platform.shown}: one of them is left from somewhere else; "
            f"unset {_HOSTS} and {_HERE}, or say where this node is: {values.PLACE}"
        )
    if toolkit or platform:
        return toolkit or platform
    by = {"nodes": _HOSTS} if text else {"rank": _HERE} if here else {}
    return half_of(environ, "SageMaker", by, (_HERE if text else _HOSTS,))


def _in_file(around: Surroundings) -> Place | None:
    if not (text := around.files.get(RESOURCES, "")):
        return None
    config = _parsed(text)
    config = config if isinstance(config, dict) else {}
    listed = _list(RESOURCES, text, config.get("hosts"))
    return _place(around, listed, str(config.get("current_host")), RESOURCES, RESOURCES)


def _place(around: Surroundings, hosts: list[str], here: str, by: str, by_here: str) -> Place:
    values.hosts(by, hosts)
    if here not in hosts:
        raise BadSetting(
            f"{by_here} says that this is {values.quoted(here)}, and {by} has no such host: which "
            f"of its {len(hosts)} is it? {values.PLACE}"
        )
    return Place(
        "SageMaker",
        len(hosts),
        hosts.index(here),
        values.platform_host(by, hosts[0]) if len(hosts) > 1 else None,
        _PORT,
        values.number(around.environ.get("SM_NUM_GPUS")),
        around.environ.get("TRAINING_JOB_NAME", "").strip() or None,
        {"nodes": by, "rank": by_here, "master": by, "processes": "SM_NUM_GPUS",
         "job": "TRAINING_JOB_NAME", "port": "as its toolkit has it"},
        own=("port",),
    )  # fmt: skip


def _list(name: str, text: str, data: object) -> list[str]:
    if not isinstance(data, list) or not data or not all(isinstance(one, str) for one in data):
        raise values.unreadable(name, text, 'a list of hosts in JSON, ["algo-1", "algo-2"]')
    return data


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
