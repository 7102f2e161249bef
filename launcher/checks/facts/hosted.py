"""Places whose machines are others': Kubernetes, Slurm, hubs, rented machines.  Pure."""

from __future__ import annotations

from launcher.checks.facts.place import CTK, DOCKER, PLAIN, Place

_POD = "in the pod's spec, for this container"

KUBERNETES = DOCKER._replace(
    host="on the node", inside="in the container",
    give=f"{_POD}: resources: {{{{limits: {{{{nvidia.com/gpu: 1}}}}}}}}",
    named=f"{_POD}: resources: {{{{limits: {{{{nvidia.com/gpu: 1}}}}}}}}, on the node of {{0}}",
    # k3s and others keep runc as the default runtime, and offer this class beside it.
    engine="in the pod's spec: runtimeClassName: nvidia; or on the node: "
    f"{CTK} runtime configure --runtime=containerd --set-as-default && "
    "sudo systemctl restart containerd",
    capabilities=f"{_POD}: env {{0}}",
    variable="in the pod's environment: {0}   (in a shell of it: export {0})",
    anew="kubectl delete pod …, and let it be created anew",
    recreate="delete the pod, and let it be created anew",
    mount=f"{_POD}: a volumeMount {{0}}",
    shm="in the pod: mount an emptyDir with medium: Memory on /dev/shm",
    # A capability is of root's programs alone; a limit is everybody's.
    memlock="on the node: LimitMEMLOCK=infinity for containerd's service; for root's programs "
    "in the pod: securityContext: {{capabilities: {{add: [IPC_LOCK]}}}}",
    nofile="on the node: LimitNOFILE=65536:1048576 for containerd's service",
    pids="in the pod: raise podPidsLimit of the node's kubelet",
    cpus="in the pod: resources.limits.cpu: {0}",
    memory="in the pod: a higher resources.limits.memory",
    mps="in the pod: hostIPC: true, and a hostPath volume /tmp/nvidia-mps",
    seccomp="in the pod: securityContext: {{seccompProfile: {{type: Unconfined}}}}",
    newer="on the node: update containerd, to 1.5.6 at least; until then, in the pod: "
    "securityContext: {{seccompProfile: {{type: Unconfined}}}}",
    group="in the pod: securityContext: {{supplementalGroups: [{0}]}}",
    setting="in the pod's environment: {0}",
    uid="in the pod: securityContext: {{runAsUser: {0}}}",
    privileges="in the pod: securityContext: {{allowPrivilegeEscalation: true}}",
    unprivileged="in the pod: securityContext: {{privileged: false}}, and no hostPath of /dev",
    writable_root="in the pod: securityContext: {{readOnlyRootFilesystem: false}}",
    rdma=f"{_POD}: resources: {{{{limits: {{{{rdma/hca: 1}}}}}}}}, as the cluster's device plugin "
    "for RDMA names it",
    network="in the pod's spec: hostNetwork: true, or the annotation of the cluster's second "
    "network (SR-IOV, macvlan)",
    own="in the pod: securityContext: {{fsGroup: {1}}}",
    option="in the pod's spec, what {0} is to other engines",
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
        setting=variable, uid=f"{console}: a template whose user is {{0}}",
        privileges=f"{host}: no-new-privileges left out",
        unprivileged=f"{console}: {other} that gives no other devices",
        writable_root=f"{console}: a template with a root file system that can be written",
        rdma=f"{console}: {other} of a kind with a network for clusters",
        network=f"{console}: {other} of a kind with a network for clusters",
        own="in it, as root: chown -R {0} {2}",
        option=f"{host}: what {{0}} is to other engines",
    )  # fmt: skip


RUNPOD = _rented(
    "on RunPod's machine, which only RunPod reaches (stop this Pod and deploy another)",
    "in RunPod's console",
    "deploy a Pod",
    "among the environment variables of the template: {0}",
    "in RunPod's console: restart the Pod",
)._replace(give="in RunPod's console: stop the Pod and start it with a GPU, or deploy another")
VAST = _rented(
    "on the rented machine, which only its owner reaches (rent another)",
    "in Vast's console", "rent an instance",
    "among the environment variables of the template: {0}",
    "in Vast's console: restart the instance",
)  # fmt: skip

SLURM = PLAIN._replace(
    host="on the node, which the cluster's admins reach", inside="in the job",
    give="in the job: srun --gres=gpu:1 …   (#SBATCH --gres=gpu:1; Apptainer: --nv)",
    named="in the job: srun --gres=gpu:1 …, which chooses among {0}",
    engine="in the job: srun --gres=gpu:1 …; Apptainer: --nv; with pyxis, the cluster's admins "
    "set up enroot's hook 98-nvidia.sh",
    capabilities="in the job: export {0}",
    variable="in the job: export {0}",
    setting="in the job: export {0}",
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
    rdma="with Apptainer in the job: --bind /dev/infiniband; with pyxis in the job: export "
    "MELLANOX_VISIBLE_DEVICES=all, for enroot's hook 99-mellanox.sh",
    network="the cluster's admins: an address for the card's interface",
    own="in the job: a folder of your own on {2}, as the mounts of the container name it",
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
        setting=f"{who}: c.Spawner.environment with {{0}}", uid=f"{who}: a box of uid {{0}}",
        privileges=f"{who}: a box in which sudo may give privileges",
        unprivileged=f"{who}: a box without privileges, and without the machine's /dev",
        writable_root=f"{who}: a box whose root file system can be written",
        rdma=f"{who}: {settings['rdma']}, and no limit of locked memory",
        network=f"{who}: {settings['network']}",
        own=f"{who}: {settings['own']}",
        option=f"{who}: what {{0}} is to the engine",
    )  # fmt: skip


HUB_ON_DOCKER = _hub("on the hub's machine", {
    "gpus": "c.DockerSpawner.extra_host_config with device_requests of all GPUs",
    "mount": "c.DockerSpawner.volumes",
    "shm": "c.DockerSpawner.extra_host_config with shm_size 8g",
    "group": "c.DockerSpawner.extra_host_config with group_add [{0}]",
    "rdma": "c.DockerSpawner.extra_host_config with devices of /dev/infiniband",
    "network": "c.DockerSpawner.network_name = 'host'",
    "own": "sudo chown -R {0} of the directory or volume that is mounted on {2}",
})  # fmt: skip
HUB_ON_KUBERNETES = _hub("on the node", {
    "gpus": 'c.KubeSpawner.extra_resource_limits = {{"nvidia.com/gpu": "1"}}',
    "mount": "c.KubeSpawner.volume_mounts",
    "shm": "c.KubeSpawner.volumes with an emptyDir of medium Memory on /dev/shm",
    "group": "c.KubeSpawner.supplemental_gids = [{0}]",
    "rdma": "c.KubeSpawner.extra_resource_limits with the device plugin's rdma/hca",
    "network": "c.KubeSpawner.extra_pod_config with hostNetwork",
    "own": "c.KubeSpawner.fs_gid = {1}",
})  # fmt: skip
