"""What a place where a box runs is told to do: the needs, and the two rows that others begin with.

`{0}` is what the need is about.  A fix is written once, in the words of a container of Docker's
("on the host", "create the container anew"); `how_to_run.fit` says it in those of the place.  Pure.
"""

from __future__ import annotations

from launcher.model.named_tuple import NamedTuple


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
    setting: str  # {0}, NAME=VALUE, of the start alone
    uid: str  # start it as the user {0}
    privileges: str  # that sudo may give some
    unprivileged: str  # without others' devices
    writable_root: str
    rdma: str  # the device nodes of RDMA cards, and memory to lock for them
    network: str  # the host's network, which RoCE's addresses are of
    own: str  # that uid {0}, of group {1}, may write what is mounted on {2}
    option: str  # {0}, an option of docker run with no form of its own here


CTK = "sudo nvidia-ctk"

DOCKER = Place(
    host="on the host", inside="in the container",
    give="docker run --gpus all …",
    named="docker run --gpus '\"device={0}\"' …",
    engine="docker run --gpus '\"device={0}\"' …; if that fails, on the host: install "
    f"nvidia-container-toolkit; {CTK} runtime configure --runtime=docker && "
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
    setting="docker run -e {0} …", uid="docker run --user {0} …",
    privileges="leave out --security-opt no-new-privileges",
    unprivileged="docker run without --privileged and without -v /dev:/dev",
    writable_root="leave out --read-only",
    rdma="docker run --device=/dev/infiniband --ulimit memlock=-1 …",
    network="docker run --network=host …",
    own="on the host: sudo chown -R {0} DIRECTORY, the one that is mounted on {2}",
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
    "rdma": "devices: [/dev/infiniband], ulimits: {{memlock: -1}}",
    "network": "network_mode: host",
}

PLAIN = DOCKER._replace(
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
    setting="export {0}", uid="start it as uid {0}",
    privileges="leave out the NoNewPrivileges= of the unit that this runs in",
    unprivileged="start it with no other devices than its own",
    writable_root="start it where root may write /etc",
    rdma="sudo modprobe ib_uverbs, which makes /dev/infiniband",
    network="give the card's interface an address",
    own="sudo chown -R {0} {2}",
    option="start it without what forbids this",
)  # fmt: skip
