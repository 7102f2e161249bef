"""JupyterHub whose users' servers are boxes on this machine's Docker: DockerSpawner.

jupyterhub -f deploy/jupyterhub/jupyterhub_config.py; the authenticator is yours to choose.
"""

import os

import docker.types

c = get_config()  # type: ignore[name-defined]  # noqa: F821

c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.JupyterHub.allow_named_servers = True
# Where containers reach the hub: the name or address of this machine on their network.
c.JupyterHub.hub_ip = "0.0.0.0"
c.JupyterHub.hub_connect_ip = os.environ.get("HUB_ADDRESS", "172.17.0.1")

c.DockerSpawner.image = os.environ.get("IMAGE", "pytorch-cuda:v2.6")
# No c.DockerSpawner.cmd: the image's own starts the services, and takes the hub's arguments.
c.DockerSpawner.network_name = os.environ.get("NETWORK", "bridge")
c.DockerSpawner.use_internal_ip = True
c.DockerSpawner.remove = True
# Work, and what makes a box the same box again.
c.DockerSpawner.volumes = {
    "jupyterhub-{username}-{servername}": "/workspace",
    "jupyterhub-state-{username}-{servername}": "/var/lib/launcher",
}
c.DockerSpawner.extra_host_config = {"shm_size": "8g"}
# Of each server, so that one user's leak ends no other's kernels: /dev/shm counts to the memory.
c.DockerSpawner.mem_limit = os.environ.get("MEMORY", "32G")
c.DockerSpawner.cpu_limit = float(os.environ.get("CPUS", "8"))
c.Spawner.default_url = "/lab"
c.Spawner.http_timeout = 60

# What people choose from: the GPUs of each profile.
GPUS = {"none": 0, "one GPU": 1, "all GPUs": -1}
c.Spawner.options_form = (
    '<label>GPUs <select name="gpus">'
    + "".join(f"<option>{name}</option>" for name in GPUS)
    + "</select></label>"
)
c.Spawner.options_from_form = lambda form: {"gpus": form.get("gpus", ["none"])[0]}


def give_gpus(spawner):
    """Ask the engine for as many GPUs as were chosen; a choice that is none of ours is none."""
    count = GPUS.get(spawner.user_options.get("gpus"), 0)
    request = docker.types.DeviceRequest(count=count, capabilities=[["gpu"]])
    host = {"shm_size": "8g", **({"device_requests": [request]} if count else {})}
    spawner.extra_host_config = host


c.Spawner.pre_spawn_hook = give_gpus
