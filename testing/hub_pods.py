"""The pods that deploy/jupyterhub/values.yaml leads to: as the chart reads it, by KubeSpawner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from traitlets.config import Config

VALUES = Path(__file__).parents[1] / "deploy" / "jupyterhub" / "values.yaml"
# What the chart makes of singleuser.* for KubeSpawner (Zero to JupyterHub, jupyterhub_config.py).
CHART = {
    "uid": "uid",
    "fsGid": "fs_gid",
    "cmd": "cmd",
    "defaultUrl": "default_url",
    "startTimeout": "start_timeout",
    "profileList": "profile_list",
}
# The chart's own values.yaml, of the same names, where somebody changes the image's name alone.
DEFAULTS: dict[str, Any] = {
    "image": {"name": "pytorch-cuda", "tag": "v2.6"},
    "cmd": "jupyterhub-singleuser",
    "uid": 1000,
    "fsGid": 100,
    "storage": {"homeMountPath": "/home/jovyan"},
    "memory": {"guarantee": "1G"},
}
# What a namespace that is "restricted" wants besides (Pod Security Standards).
RESTRICTED = {"capabilities": {"drop": ["ALL"]}}


def values() -> dict[str, Any]:
    return dict(yaml.safe_load(VALUES.read_text()))


def spawner(single: Mapping[str, Any], *, user: object = None, **chosen: Any) -> KubeSpawner:
    """Return the spawner of `singleuser` values, with the settings of a profile; of no cluster."""
    settings = Config({"KubeSpawner": {"namespace": "hub", "enable_user_namespaces": False}})
    ours = settings.KubeSpawner
    for key, trait in CHART.items():
        if single.get(key) is not None:
            ours[trait] = single[key]
    image, storage, memory = single["image"], single["storage"], single["memory"]
    ours.image = f"{image['name']}:{image['tag']}"
    ours.mem_guarantee, ours.mem_limit = memory["guarantee"], memory.get("limit")
    home = {"name": "home", "mountPath": storage["homeMountPath"]}
    ours.volume_mounts = [home, *storage.get("extraVolumeMounts", ())]
    claim = {"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}}
    ours.volumes = [claim, *storage.get("extraVolumes", ())]
    for name, value in chosen.items():
        ours[name] = value
    with mock.patch("kubespawner.spawner.load_config"):  # a manifest needs no cluster
        of = {} if user is None else {"user": user}
        return KubeSpawner(config=settings, _mock=True, **of)


async def pod_of(made: KubeSpawner) -> dict[str, Any]:
    """Return the pod that the spawner would ask the API for, as JSON has it."""
    async with ApiClient() as client:
        return dict(client.sanitize_for_serialization(await made.get_pod_manifest()))
