"""How each place where a box runs is told what to do: one row a place, one field a need.  Pure.

`{0}` is what the need is about.  A fix is written once, in the words of a container of Docker's
("on the host", "create the container anew"); `how_to_run.fit` says it in those of the place.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """What is typed there, and where."""

    host: str  # where commands of the host are typed; "" = here
    inside: str  # where those of the box are typed; "" = here
    give: str  # GPUs
    named: str  # … those of {0}, as NVIDIA_VISIBLE_DEVICES names them
    engine: str  # … that the engine was asked for ({0}) and did not give
    capabilities: str  # all of the driver that computing needs: the variable {0}
    variable: str  # {0}, NAME=VALUE
    anew: str  # start it once more
    recreate: str  # … from nothing
    mount: str  # {0}, SOURCE:TARGET
    shm: str
    memlock: str
    nofile: str  # fewer files open
    pids: str
    cpus: str  # {0} of them; {1} is the last one's number
    memory: str
    mps: str  # share the host's MPS
    seccomp: str  # fewer system calls forbidden
    newer: str  # an engine that knows newer system calls
    group: str  # the group {0} beside the user's own
    option: str  # {0}, an option of docker run with no form of its own here


_POD = "in the pod's spec, for this container"
_CTK = "sudo nvidia-ctk"

DOCKER = Place(
    host="on the host", inside="in the container",
    give="docker run --gpus all …",
    named="docker run --gpus '\"device={0}\"' …",
    engine="docker run --gpus '\"device={0}\"' …; if that fails, on the host: install "
    f"nvidia-container-toolkit; {_CTK} runtime configure --runtime=docker && "
    "sudo systemctl restart docker",
    # Compose's and --gpus' capabilities override the variable.
    capabilities="docker run --gpus all -e {0} …",
    variable="docker run -e {0} …   (in a shell of it: export {0})",
    anew="on the host: docker restart …",
    recreate="docker rm the container, and docker run it anew",
    mount="docker run -v {0} …",
    shm="docker run --shm-size=8g …   (or --ipc=host)",
    memlock="docker run --ulimit memlock=-1 …",
    nofile="docker run --ulimit nofile=65536:1048576 …",
    pids="docker run --pids-limit=-1 …",
    cpus="docker run --cpus={0} …, or without --cpus and --cpuset-cpus",
    memory="docker run --memory=… with a higher limit",
    mps="docker run --ipc=host -v /tmp/nvidia-mps:/tmp/nvidia-mps …",
    seccomp="docker run --security-opt seccomp=unconfined …",
    newer="on the host: update docker, to 20.10.10 at least; until then: "
    "docker run --security-opt seccomp=unconfined …",
    group="docker run --group-add {0} …",
    option="docker run {0} …",
)  # fmt: skip

# What compose.yaml has for a service: it leaves no trace in a container, so Docker's fixes name it.
COMPOSE = {
    "give": "gpus: all",
    "named": "device_ids: [{0}]",
    "capabilities": "capabilities: [gpu], nothing more",
    "variable": "environment: [{0}]",
    "shm": "shm_size: 8g",
    "memlock": "ulimits: {{memlock: -1}}",
    "nofile": "ulimits: {{nofile: 65536}}",
    "pids": "pids_limit: -1",
    "cpus": "cpus: {0}",
    "group": "group_add: [{0}]",
}


def _podman(rootless: str = "") -> Place:
    """Return Docker's row in Podman's words; `rootless` are the options of a user's own."""
    words = Place(*(text.replace("docker", "podman") for text in DOCKER))
    options = f"{rootless} " if rootless else ""
    generate = f"on the host: {_CTK} cdi generate --output=/etc/cdi/nvidia.yaml; then "
    return words._replace(
        give=f"podman run --device nvidia.com/gpu=all {options}…",
        named=f"podman run --device nvidia.com/gpu={{0}} {options}…",
        engine=f"{generate}podman run --device nvidia.com/gpu={{0}} {options}…",
        capabilities=f"podman run --device nvidia.com/gpu=all {options}-e {{0}} …",
        group="podman run --group-add keep-groups …" if rootless else words.group,
        newer="on the host: update podman, containers-common and libseccomp; until then: "
        f"podman run --security-opt seccomp=unconfined {options}…",
    )


_PLAIN = DOCKER._replace(
    host="", inside="",
    give="install the driver's libraries, of the version of its kernel module: "
    "sudo apt install libnvidia-compute-{0} nvidia-utils-{0}",
    named="export CUDA_VISIBLE_DEVICES={0}",
    engine="install the driver's libraries, of the version of its kernel module",
    capabilities="install the driver's libraries, of the version of its kernel module",
    variable="export {0}",
    anew="start it again", recreate="start it again",
    mount="make what {0} names",
    shm="sudo mount -o remount,size=8G /dev/shm",
    memlock="ulimit -l unlimited, as root",
    nofile="ulimit -n 65536, before it is started",
    pids="raise TasksMax= of the unit that this runs in",
    cpus="taskset -c 0-{1} …, or a CPUQuota= of {0}00%",
    memory="raise MemoryMax= of the unit that this runs in",
    mps="start it as the user whose MPS server that is",
    seccomp="leave out the SystemCallFilter= of the unit that this runs in",
    newer="SystemCallErrorNumber=ENOSYS in the unit that this runs in",
    group="sudo usermod -aG {0} $USER, and log in again",
    option="start it without what forbids this",
)  # fmt: skip

_LXC = _PLAIN._replace(
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
    option="on the LXC host, in the container's configuration: what forbids this",
)  # fmt: skip

_WSL = _PLAIN._replace(
    host="on Windows, or in WSL",
    give="on Windows: update the NVIDIA driver, then wsl --update; in Docker: --gpus all",
    engine="on Windows: update the NVIDIA driver, then wsl --update",
    capabilities="on Windows: update the NVIDIA driver, then wsl --update",
    anew="on Windows: wsl --shutdown, then start it again",
    recreate="restart WSL (wsl --shutdown on Windows)", newer="on Windows: wsl --update",
    memory="on Windows: a higher memory= in .wslconfig",
)  # fmt: skip

_KUBERNETES = DOCKER._replace(
    host="on the node", inside="in the container",
    give=f"{_POD}: resources: {{{{limits: {{{{nvidia.com/gpu: 1}}}}}}}}",
    named=f"{_POD}: resources: {{{{limits: {{{{nvidia.com/gpu: 1}}}}}}}}, on the node of {{0}}",
    # k3s and others keep runc as the default runtime, and offer this class beside it.
    engine="in the pod's spec: runtimeClassName: nvidia; or on the node: "
    f"{_CTK} runtime configure --runtime=containerd --set-as-default && "
    "sudo systemctl restart containerd",
    capabilities=f"{_POD}: env {{0}}",
    variable="in the pod's environment: {0}   (in a shell of it: export {0})",
    anew="kubectl delete pod …, and let it be created anew",
    recreate="delete the pod, and let it be created anew",
    mount=f"{_POD}: a volumeMount {{0}}",
    shm="in the pod: mount an emptyDir with medium: Memory on /dev/shm",
    memlock="in the pod: containerd's service on the node needs LimitMEMLOCK=infinity",
    nofile="on the node: LimitNOFILE=65536:1048576 for containerd's service",
    pids="in the pod: raise podPidsLimit of the node's kubelet",
    cpus="in the pod: resources.limits.cpu: {0}",
    memory="in the pod: a higher resources.limits.memory",
    mps="in the pod: hostIPC: true, and a hostPath volume /tmp/nvidia-mps",
    seccomp="in the pod: securityContext: {{seccompProfile: {{type: Unconfined}}}}",
    newer="on the node: update containerd, to 1.5.6 at least; until then, in the pod: "
    "securityContext: {{seccompProfile: {{type: Unconfined}}}}",
    group="in the pod: securityContext: {{supplementalGroups: [{0}]}}",
    option="in the pod's securityContext what {0} is to other engines",
)  # fmt: skip


def _rented(host: str, console: str, other: str, variable: str, restart: str) -> Place:
    """Return the row of a platform whose machines are others': more is had by renting more."""
    more = f"{console}: {other} with more"
    return DOCKER._replace(
        host=host, inside="in the container",
        give=f"{console}: {other} that gives its GPU to the container",
        named=f"{console}: {other} that gives its GPUs to the container",
        engine=f"{console}: {other} that gives its GPU to the container",
        capabilities=variable, variable=variable, anew=restart,
        recreate=f"{restart}, or {other}",
        mount=f"{console}: a volume for {{0}}",
        shm=f"{more} memory: /dev/shm grows with it",
        memlock=f"{host}: a higher limit of locked memory",
        nofile=f"{host}: a lower limit of open files; in a shell of it: ulimit -n 65536",
        pids=f"{host}: a higher limit of processes",
        cpus=f"{more} CPUs: {{0}} for these GPUs",
        memory=f"{more} memory",
        mps="start no MPS server, and unset CUDA_MPS_PIPE_DIRECTORY",
        seccomp=f"{host}: a seccomp profile that allows it",
        newer=f"{console}: {other}, on a machine with a newer engine",
        group=f"{host}: device nodes of mode 0666, not of group {{0}}",
        option=f"{host}: what {{0}} is to other engines",
    )  # fmt: skip


_RUNPOD = _rented(
    "on RunPod's machine, which only RunPod reaches (stop this Pod and deploy another)",
    "in RunPod's console",
    "deploy a Pod",
    "among the environment variables of the template: {0}",
    "in RunPod's console: restart the Pod",
)._replace(give="in RunPod's console: stop the Pod and start it with a GPU, or deploy another")
_VAST = _rented(
    "on the rented machine, which only its owner reaches (rent another)",
    "in Vast's console", "rent an instance",
    "among the environment variables of the template: {0}",
    "in Vast's console: restart the instance",
)  # fmt: skip

_SLURM = _PLAIN._replace(
    host="on the node, which the cluster's admins reach", inside="in the job",
    give="in the job: srun --gres=gpu:1 …   (#SBATCH --gres=gpu:1; Apptainer: --nv)",
    named="in the job: srun --gres=gpu:1 …, which chooses among {0}",
    engine="in the job: srun --gres=gpu:1 …; Apptainer: --nv; with pyxis, the cluster's admins "
    "set up enroot's hook 98-nvidia.sh",
    capabilities="in the job: export {0}",
    variable="in the job: export {0}",
    anew="submit the job again", recreate="submit the job again",
    mount="in the job: --container-mounts={0} (Apptainer: --bind {0})",
    shm="the cluster's admins: a larger /dev/shm on the node",
    memlock="the cluster's admins: LimitMEMLOCK=infinity for slurmd",
    nofile="in the job: ulimit -n 65536, before it is started",
    pids="the cluster's admins: a higher TasksMax= for slurmd",
    cpus="in the job: srun --cpus-per-task={0} …",
    memory="in the job: srun --mem=… with a higher limit",
    newer="the cluster's admins: a newer libseccomp, and Apptainer or enroot",
    group="the cluster's admins: the group {0} for this account",
    option="the cluster's admins: what forbids this",
)  # fmt: skip


def _hub(host: str, settings: dict[str, str]) -> Place:
    """Return the row of a JupyterHub, whose users start boxes and set nothing but variables."""
    who = "whoever runs the hub"
    server = "in the hub's control panel: Stop My Server, then start it"
    return DOCKER._replace(
        host=f"{host} ({who})", inside="in the container",
        give=f"{who}: {settings['gpus']}",
        named=f"{who}: {settings['gpus']}, for {{0}}",
        engine=f"{who}: {settings['gpus']}, and the engine's NVIDIA runtime",
        capabilities=f"{who}: c.Spawner.environment with {{0}}",
        variable="in a terminal of it: export {0}; for every start, "
        f"{who}: c.Spawner.environment",
        anew=server, recreate=server,
        mount=f"{who}: a volume {{0}} ({settings['mount']})",
        shm=f"{who}: {settings['shm']}",
        memlock=f"{who}: no limit of locked memory",
        nofile=f"{who}: a lower limit of open files",
        pids=f"{who}: a higher limit of processes",
        cpus=f"{who}: c.Spawner.cpu_limit = {{0}}",
        memory=f"{who}: a higher c.Spawner.mem_limit",
        mps=f"{who}: the host's IPC namespace and /tmp/nvidia-mps for this box",
        seccomp=f"{who}: a seccomp profile that allows it",
        newer=f"{who}: a newer engine, whose seccomp profile knows newer system calls",
        group=f"{who}: {settings['group']}",
        option=f"{who}: what {{0}} is to the engine",
    )  # fmt: skip


_HUB_ON_DOCKER = _hub("on the hub's machine", {
    "gpus": "c.DockerSpawner.extra_host_config with device_requests of all GPUs",
    "mount": "c.DockerSpawner.volumes",
    "shm": "c.DockerSpawner.extra_host_config with shm_size 8g",
    "group": "c.DockerSpawner.extra_host_config with group_add [{0}]",
})  # fmt: skip
_HUB_ON_KUBERNETES = _hub("on the node", {
    "gpus": 'c.KubeSpawner.extra_resource_limits = {{"nvidia.com/gpu": "1"}}',
    "mount": "c.KubeSpawner.volume_mounts",
    "shm": "c.KubeSpawner.volumes with an emptyDir of medium Memory on /dev/shm",
    "group": "c.KubeSpawner.supplemental_gids = [{0}]",
})  # fmt: skip

PLACES = {
    "plain": _PLAIN,
    "lxc": _LXC,
    "wsl2": _WSL,
    "docker": DOCKER,
    "podman": _podman(),
    "rootless podman": _podman("--security-opt=label=disable --group-add keep-groups"),
    "kubernetes": _KUBERNETES,
    "runpod": _RUNPOD,
    "vast": _VAST,
    "slurm": _SLURM,
    "hub": _HUB_ON_DOCKER,
    "hub on kubernetes": _HUB_ON_KUBERNETES,
}
