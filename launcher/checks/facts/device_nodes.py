"""What is wrong with the files below /dev, for the layer "runtime".  Pure."""

from __future__ import annotations

import re

from launcher.checks.check import plural
from launcher.model.evidence import Evidence
from launcher.model.host import READ_WRITE, Account, granted
from launcher.model.machine import DeviceNode

CONTROL, UVM, NVMAP = "/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvmap"
_GPU_NODE = r"/dev/nvidia\d+"


def nodes_of_nvidia(seen: Evidence) -> list[str]:
    return [path for path in seen.hardware.device_nodes if path.startswith("/dev/nvidia")]


def gpu_nodes(seen: Evidence) -> list[str]:
    return [path for path in seen.hardware.device_nodes if is_gpu_node(path)]


def is_gpu_node(path: str) -> bool:
    return re.fullmatch(_GPU_NODE, path) is not None


def cuda_works(seen: Evidence) -> bool:
    """Return whether CUDA was tried and lacks none of the GPUs that NVML counts."""
    cuda, counted = seen.cuda, len(seen.gpus) + len(seen.lost)
    return cuda is not None and cuda.outcome == "ok" and len(cuda.devices) >= max(1, counted)


def refused(seen: Evidence, *faults: str) -> str | None:
    """Return those nodes that CUDA needs and that open with one of these errors."""
    if cuda_works(seen) and not seen.report.failure:
        return None
    nodes = [node for node in _needed(seen) if node.fault in faults]
    return ", ".join(f"{node.path}: {node.fault}" for node in nodes) or None


def kept_from_user(seen: Evidence) -> str | None:
    """Return those nodes whose mode keeps the user out, where CUDA does not prove otherwise."""
    user = seen.user or seen.machine.host.me
    if cuda_works(seen):  # an ACL may allow what the mode does not
        return None
    nodes = closed_to_user(seen)
    modes = (f"{node.path} (mode {node.mode:04o}, {node.uid}:{node.gid})" for node in nodes)
    return f"user {user.name} may not open {', '.join(modes)}" if nodes else None


def closed_to_user(seen: Evidence) -> list[DeviceNode]:
    """Return those nodes that CUDA needs and whose mode keeps the user out."""
    user = seen.user or seen.machine.host.me
    return [node for node in _needed(seen) if _keeps_out(node, user)]


def control_missing(seen: Evidence) -> str | None:
    if gpu_nodes(seen) and not seen.has_node(CONTROL) and seen.report.failure:
        return f"{gpu_nodes(seen)[0]} is here, {CONTROL} is not"
    return None


def uvm_missing(seen: Evidence) -> str | None:
    """Return whether the node of a loaded nvidia_uvm was not passed on."""
    loaded = seen.hardware.modules is None or "nvidia_uvm" in seen.hardware.modules
    if not seen.has_node(CONTROL) or seen.has_node(UVM) or not loaded or cuda_works(seen):
        return None
    # Without "compute" it is left out on purpose (libnvidia-container, nvc_mount.c).
    asked = set(seen.environ.get("NVIDIA_DRIVER_CAPABILITIES", "").split(","))
    if seen.given is None and not asked & {"", "all", "compute", "video"}:
        return None
    failed = f"; CUDA {seen.cuda.code}: {seen.cuda.name}" if seen.cuda and seen.cuda.code else ""
    return f"{CONTROL} is here, {UVM} is not{failed}"


def started_without_node(seen: Evidence) -> list[str]:
    """Return the nodes that are missing of GPUs which the kernel module has started.

    NVML counts what it can open: without /dev/nvidia0 it counts no GPU 0, and says nothing.
    """
    paths = (f"/dev/nvidia{minor}" for minor in seen.hardware.started)
    return [path for path in paths if seen.has_node(CONTROL) and not seen.has_node(path)]


def gpu_missing(seen: Evidence) -> str | None:
    """Return the GPUs that NVML lists without a node, or that there is no node of any."""
    if seen.report.failure or not seen.has_node(CONTROL) or cuda_works(seen):
        return None
    if not seen.gpus and not seen.lost and not gpu_nodes(seen):
        started = ", ".join(started_without_node(seen))
        absent = f"{started} not" if started else "no /dev/nvidia0 is"
        return f"{CONTROL} is here, {absent}; NVML counts no GPU"
    minors = [gpu.minor for gpu in seen.gpus if gpu.minor is not None]
    paths = [f"/dev/nvidia{minor}" for minor in minors]
    missing = [path for path in paths if not seen.has_node(path)]
    if not missing:
        return None
    return f"NVML lists {plural(len(seen.gpus), 'GPU')}; not here: {', '.join(missing)}"


def _needed(seen: Evidence) -> list[DeviceNode]:
    """Return the nodes without which CUDA cannot use the GPUs that NVML counts.

    With the host's whole /dev in the container, other containers' GPUs have nodes here too, which
    the device cgroup rightly refuses.
    """
    jetson = {NVMAP} if not gpu_nodes(seen) else set()
    own = {f"/dev/nvidia{gpu.minor}" for gpu in seen.gpus if gpu.minor is not None}
    if seen.lost or not own:  # it is not known which are ours
        own = set(gpu_nodes(seen))
    return [node for node in seen.report.nodes if node.path in {CONTROL, UVM, *jetson, *own}]


def _keeps_out(node: DeviceNode, user: Account) -> bool:
    """Return whether mode and owner refuse this user, as open(2) judges them."""
    allowed = granted(node.mode, node.uid, node.gid, user)
    return user.uid != 0 and allowed & READ_WRITE != READ_WRITE
