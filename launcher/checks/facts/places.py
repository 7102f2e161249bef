"""How each place where a box runs is told what to do: one row a place, one field a need.  Pure."""

from __future__ import annotations

from launcher.checks.facts.hosted import (
    HUB_ON_DOCKER,
    HUB_ON_KUBERNETES,
    KUBERNETES,
    RUNPOD,
    SLURM,
    VAST,
)
from launcher.checks.facts.place import CTK, DOCKER, PLAIN, Place


def _podman(rootless: str = "") -> Place:
    """Return Docker's row in Podman's words; `rootless` are the options of a user's own."""
    words = Place(*(text.replace("docker", "podman") for text in DOCKER))
    options = f"{rootless} " if rootless else ""
    generate = f"on the host: {CTK} cdi generate --output=/etc/cdi/nvidia.yaml; then "
    return words._replace(
        give=f"podman run --device nvidia.com/gpu=all {options}…",
        named=f"podman run --device nvidia.com/gpu={{0}} {options}…",
        engine=f"{generate}podman run --device nvidia.com/gpu={{0}} {options}…",
        capabilities=f"podman run --device nvidia.com/gpu=all {options}-e {{0}} …",
        group="podman run --group-add keep-groups …" if rootless else words.group,
        # Its uids are others on the host, those of /etc/subuid.
        own="on the host: podman unshare chown -R {0} DIRECTORY, the one that is mounted on {2}"
        if rootless
        else words.own,
        newer="on the host: update podman, containers-common and libseccomp; until then: "
        f"podman run --security-opt seccomp=unconfined {options}…",
    )


_LXC = PLAIN._replace(
    host="on the LXC host",
    give="on the LXC host, in the container's configuration: /dev/nvidia0, /dev/nvidiactl and "
    "/dev/nvidia-uvm (Proxmox: dev0: /dev/nvidia0 …; LXD, Incus: config device add NAME gpu gpu); "
    "in the container the libraries of that driver: NVIDIA-Linux-….run --no-kernel-module",
    named="on the LXC host, in the container's configuration: the device nodes of {0}",
    engine="on the LXC host: NVIDIA's container hook (LXD, Incus: nvidia.runtime=true)",
    capabilities="in the container the libraries of the host's driver: NVIDIA-Linux-….run "
    "--no-kernel-module",
    anew="on the LXC host: restart the container (Proxmox: pct reboot ID)",
    recreate="restart the container on the LXC host (Proxmox: pct reboot ID)",
    mount="on the LXC host, in the container's configuration: a mount point {0}",
    memlock="on the LXC host: lxc.prlimit.memlock = unlimited in the container's configuration",
    nofile="on the LXC host: lxc.prlimit.nofile = 65536 in the container's configuration",
    pids="on the LXC host: a higher lxc.cgroup2.pids.max (Proxmox, LXD: limits.processes)",
    cpus="on the LXC host: {0} cores in the container's configuration",
    memory="on the LXC host: more memory in the container's configuration",
    seccomp="on the LXC host: another lxc.seccomp.profile",
    newer="on the LXC host: update LXC and libseccomp, or another lxc.seccomp.profile",
    rdma="on the LXC host, in the container's configuration: /dev/infiniband, and "
    "lxc.prlimit.memlock = unlimited",
    network="on the LXC host, in the container's configuration: the card's interface "
    "(lxc.net.0.type = phys)",
    option="on the LXC host, in the container's configuration: what forbids this",
)  # fmt: skip

_WSL = PLAIN._replace(
    host="on Windows, or in WSL",
    give="on Windows: update the NVIDIA driver, then wsl --update; in Docker: --gpus all",
    engine="on Windows: update the NVIDIA driver, then wsl --update",
    capabilities="on Windows: update the NVIDIA driver, then wsl --update",
    anew="on Windows: wsl --shutdown, then start it again",
    recreate="restart WSL (wsl --shutdown on Windows)", newer="on Windows: wsl --update",
    memory="on Windows: a higher memory= in .wslconfig",
)  # fmt: skip

PLACES = {
    "plain": PLAIN,
    "lxc": _LXC,
    "wsl2": _WSL,
    "docker": DOCKER,
    "podman": _podman(),
    "rootless podman": _podman("--security-opt=label=disable --group-add keep-groups"),
    "kubernetes": KUBERNETES,
    "runpod": RUNPOD,
    "vast": VAST,
    "slurm": SLURM,
    "hub": HUB_ON_DOCKER,
    "hub on kubernetes": HUB_ON_KUBERNETES,
}
