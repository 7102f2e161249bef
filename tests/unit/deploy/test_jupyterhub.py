"""deploy/jupyterhub: read as a hub reads it, by the real spawners."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config, PyFileConfigLoader

# The spawners are imported by the tests: it takes seconds, which every worker would have to pay.

FOLDER = Path(__file__).parents[3] / "deploy" / "jupyterhub"


@pytest.fixture(scope="module")
def config() -> Config:
    return PyFileConfigLoader("jupyterhub_config.py", path=str(FOLDER)).load_config()


def test_the_spawner_knows_every_setting(config: Config) -> None:
    from dockerspawner import DockerSpawner

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


def test_no_user_takes_the_machine_from_the_others(config: Config) -> None:
    from dockerspawner import DockerSpawner

    from testing import hub_pods

    spawner = DockerSpawner()
    spawner.mem_limit = config.DockerSpawner.mem_limit
    spawner.cpu_limit = config.DockerSpawner.cpu_limit
    assert spawner.mem_limit == 32 << 30
    assert spawner.cpu_limit == 8
    page = (FOLDER.parents[1] / "docs" / "deploy.md").read_text()
    assert "most 32 GB of memory and 8 CPUs" in page
    single = hub_pods.values()["singleuser"]
    for resource in ("memory", "cpu"):
        assert set(single[resource]) == {"guarantee", "limit"}


async def pod_of(single: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    from testing import hub_pods

    made = hub_pods.spawner(single, **override)
    assert set(override) <= set(made.trait_names()), "a setting that KubeSpawner does not have"
    made.get_args = lambda: ["--SingleUserServer.base_url=/user/ada/"]
    return await hub_pods.pod_of(made)


@pytest.mark.parametrize("profile", range(3))
def test_the_pod_of_each_profile_is_one_that_the_api_takes(profile: int) -> None:
    import kubernetes_validate

    from testing import hub_pods

    single = hub_pods.values()["singleuser"]
    override = single["profileList"][profile]["kubespawner_override"]
    pod = asyncio.run(pod_of(single, override))
    kubernetes_validate.validate(pod, "1.37", strict=True)
    (container,) = pod["spec"]["containers"]
    assert not container.get("command"), "the image's entrypoint is PID 1"
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/workspace", "/dev/shm"} <= mounts
    limits = container["resources"]["limits"]
    wanted = override.get("extra_resource_limits", {})
    assert {key: value for key, value in limits.items() if "nvidia" in key} == wanted
