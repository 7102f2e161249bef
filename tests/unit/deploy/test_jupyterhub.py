"""deploy/jupyterhub: read as a hub reads it, by the real spawners."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerspawner import DockerSpawner
from kubernetes_asyncio.client import ApiClient
from kubespawner import KubeSpawner
from traitlets.config import Config, PyFileConfigLoader

FOLDER = Path(__file__).parents[3] / "deploy" / "jupyterhub"


@pytest.fixture(scope="module")
def config() -> Config:
    return PyFileConfigLoader("jupyterhub_config.py", path=str(FOLDER)).load_config()


def test_the_spawner_knows_every_setting(config: Config) -> None:
    known = set(DockerSpawner.class_trait_names(config=True))
    for section in ("DockerSpawner", "Spawner"):
        assert set(config[section]) <= known, section
    assert "cmd" not in config.DockerSpawner, "the image's own starts the services"


def test_work_and_identity_are_kept_for_each_server(config: Config) -> None:
    volumes = config.DockerSpawner.volumes
    assert set(volumes.values()) == {"/workspace", "/var/lib/launcher"}
    assert all("{username}" in name and "{servername}" in name for name in volumes)


@pytest.mark.parametrize(
    ("chosen", "count"),
    [("none", None), ("one GPU", 1), ("all GPUs", -1), ("hundred", None), (None, None)],
)
def test_a_choice_is_asked_of_the_engine(config: Config, chosen: str, count: int | None) -> None:
    spawner = SimpleNamespace(user_options={"gpus": chosen}, extra_host_config={})
    config.Spawner.pre_spawn_hook(spawner)
    requests = spawner.extra_host_config.get("device_requests", [])
    assert [request.count for request in requests] == ([] if count is None else [count])
    assert spawner.extra_host_config["shm_size"] == "8g"


# What the chart makes of singleuser.* for KubeSpawner (Zero to JupyterHub, jupyterhub_config.py).
CHART = {
    "uid": "uid",
    "fsGid": "fs_gid",
    "cmd": "cmd",
    "defaultUrl": "default_url",
    "startTimeout": "start_timeout",
    "profileList": "profile_list",
}


def values() -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / "values.yaml").read_text()))


def spawner(**chosen: Any) -> KubeSpawner:
    single = values()["singleuser"]
    settings = Config({"KubeSpawner": {"namespace": "hub", "enable_user_namespaces": False}})
    ours = settings.KubeSpawner
    for key, trait in CHART.items():
        if single[key] is not None:
            ours[trait] = single[key]
    image, storage = single["image"], single["storage"]
    ours.image = f"{image['name']}:{image['tag']}"
    ours.mem_guarantee, ours.mem_limit = single["memory"]["guarantee"], single["memory"]["limit"]
    home = {"name": "home", "mountPath": storage["homeMountPath"]}
    ours.volume_mounts = [home, *storage["extraVolumeMounts"]]
    claim = {"name": "home", "persistentVolumeClaim": {"claimName": "claim-ada"}}
    ours.volumes = [claim, *storage["extraVolumes"]]
    for name, value in chosen.items():
        ours[name] = value
    made = KubeSpawner(config=settings, _mock=True)
    made.get_args = lambda: ["--SingleUserServer.base_url=/user/ada/"]
    return made


def no_cluster(**_: object) -> None:
    """Stand for the look at a cluster's configuration: a manifest needs none."""


async def pod_of(override: dict[str, Any]) -> dict[str, Any]:
    """Return the pod that the spawner would ask the API for, as JSON has it."""
    made = spawner(**override)
    assert set(override) <= set(made.trait_names()), "a setting that KubeSpawner does not have"
    async with ApiClient() as client:
        return dict(client.sanitize_for_serialization(await made.get_pod_manifest()))


@pytest.mark.parametrize("profile", range(3))
def test_the_pod_of_each_profile_is_one_that_the_api_takes(
    profile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubespawner.spawner.load_config", no_cluster)
    override = values()["singleuser"]["profileList"][profile]["kubespawner_override"]
    pod = asyncio.run(pod_of(override))
    kubernetes_validate.validate(pod, "1.37", strict=True)
    (container,) = pod["spec"]["containers"]
    assert not container.get("command"), "the image's entrypoint is PID 1"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/workspace", "/dev/shm"} <= mounts
    limits = container["resources"]["limits"]
    wanted = override.get("extra_resource_limits", {})
    assert {key: value for key, value in limits.items() if "nvidia" in key} == wanted
