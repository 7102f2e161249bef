"""JupyterHub's configuration for the tests: users of no password, servers in containers.

JupyterHub runs this file; it is no module of the tests.  What it cannot know is in HUB_TEST_*.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner

sys.path.insert(0, os.environ["HUB_TEST_PROJECT"])
from testing import hub_pods
from testing.container import pod

DOCKER = os.environ["HUB_TEST_DOCKER"]
IMAGE = os.environ["HUB_TEST_IMAGE"]
NAMES = os.environ["HUB_TEST_NAMES"]
ONE_GPU = {"extra_resource_limits": {pod.GPUS: "1"}}
PODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "pod": (hub_pods.values()["singleuser"], ONE_GPU),
    "chart": (hub_pods.DEFAULTS, {"container_security_context": hub_pods.RESTRICTED}),
}


class DockerCli(Spawner):  # type: ignore[misc]
    """`docker run` of the image, with its own command or, for user "command", the hub's.

    For "pod" and "chart" as a kubelet would: the pod of deploy/jupyterhub/values.yaml, and that of
    the chart's own values.
    """

    async def start(self) -> tuple[str, int]:
        self.ip, self.port = "0.0.0.0", 8888
        options, command = await self._what_to_run()
        await docker("run", "--detach", "--name", self.box, *options, IMAGE, *command)
        address = "{{.NetworkSettings.IPAddress}}"
        return await docker("inspect", "--format", address, self.box), 8888

    async def _what_to_run(self) -> tuple[Sequence[str], Sequence[str]]:
        if self.user.name in PODS:
            single, chosen = PODS[self.user.name]
            made = hub_pods.spawner(single, user=self.user, **chosen)
            made.get_env, made.get_args = self.get_env, self.get_args
            spec = await hub_pods.pod_of(made)
            return pod.run_options(spec, Path("claims", self.user.name).resolve()), pod.arguments(
                spec
            )
        variables = [part for pair in self.get_env().items() for part in ("-e", "=".join(pair))]
        command = [*self.cmd, *self.get_args()] if self.user.name == "command" else []
        return ["--gpus", "all", *variables], command

    async def poll(self) -> int | None:
        running = await docker("inspect", "--format", "{{.State.Running}}", self.box, check=False)
        return None if running == "true" else 1

    async def stop(self, now: bool = False) -> None:
        await docker("rm", "--force", "--volumes", self.box, check=False)

    @property
    def box(self) -> str:
        return f"{NAMES}-{self.user.name}"


async def docker(*arguments: str, check: bool = True) -> str:
    """Return what `docker ARGUMENTS…` printed."""
    process = await asyncio.create_subprocess_exec(
        DOCKER, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    if check and process.returncode:
        raise RuntimeError(f"docker {arguments[0]}: {err.decode()}")
    return out.decode().strip()


c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821
c.JupyterHub.spawner_class = DockerCli
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.bind_url = os.environ["HUB_TEST_PUBLIC_URL"]
# Where containers reach the hub: their gateway is this machine.
c.JupyterHub.hub_bind_url = os.environ["HUB_TEST_HUB_URL"]
c.ConfigurableHTTPProxy.command = os.environ["HUB_TEST_PROXY"]
c.ConfigurableHTTPProxy.api_url = os.environ["HUB_TEST_PROXY_API_URL"]
c.JupyterHub.db_url = "sqlite:///:memory:"
c.JupyterHub.cookie_secret_file = "cookie_secret"
c.Spawner.http_timeout = 60
c.Spawner.start_timeout = 60
# Importing PyTorch is two fifths of what a box computes at its start.
c.Spawner.environment = {"LAUNCHER_CHECK_PYTORCH": "off"}
