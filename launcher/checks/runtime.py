"""The checks of the layer "runtime": did the container engine give the GPUs?  Pure."""

from __future__ import annotations

import re

from launcher.checks.check import CPU_ONLY, Check, nvml_words
from launcher.checks.facts.device_nodes import (
    CONTROL,
    NVMAP,
    UVM,
    closed_to_user,
    control_missing,
    cuda_works,
    gpu_missing,
    kept_from_user,
    nodes_of_nvidia,
    refused,
    uvm_missing,
)
from launcher.checks.facts.forbidden import THREADS_MEAN, threads, update
from launcher.checks.facts.how_to_run import (
    anew,
    by_hand,
    give_gpus,
    give_gpus_here,
    give_named,
    has_options,
    place_of,
    tell,
    use_nvidia_runtime,
    with_capabilities,
)
from launcher.checks.facts.injection import (
    asked_for,
    gvisor_refuses,
    is_jetson,
    leak,
    none_asked_for,
    not_followed,
    not_injected,
    not_requested,
    void_asked_for,
    wsl_blocks,
    wsl_without_libraries,
)
from launcher.checks.facts.library_files import CUDA, NVML, dangling, not_found, unsearched
from launcher.model.evidence import Evidence

_NO_MIG_ACCESS = (3, 100, 101, 800, 999)  # what cuInit may say where an instance may not be used
_KEEP_DEVICES = "sudo nvidia-ctk system create-dev-char-symlinks --create-all"


# --- it was given, and may not be used -----------------------------------------------------------


def _permission(seen: Evidence) -> str | None:
    return nvml_words(seen) if seen.nvml(4) else refused(seen, "EACCES")


def _cgroup(seen: Evidence) -> str | None:
    nodes = refused(seen, "EPERM")
    # 17 is NVML_ERROR_OPERATING_SYSTEM: blocked by the operating system or cgroups (nvml.h).
    if seen.nvml(17, 999) and (nodes or seen.node(CONTROL) is None):
        return f"{nvml_words(seen)}{f'; {nodes}' if nodes else ''}"
    return nodes


def _nvml_unknown(seen: Evidence) -> str | None:
    return f"{nvml_words(seen)}; {CONTROL} opens" if seen.nvml(17, 999) else None


def _cgroup_lost(seen: Evidence) -> str | None:
    what = _cgroup(seen) if seen.worked_before else None
    return f"the GPUs worked when this container started; now {what}" if what else None


# --- a part was left out -------------------------------------------------------------------------


def _stale_cdi(seen: Evidence) -> str | None:
    for name in (NVML, CUDA):
        link = dangling(seen, name)
        if link and not_found(seen, name):
            kernel = f"; kernel module {driver}" if (driver := seen.hardware.kernel_driver) else ""
            return f"{link.path} points to {link.target}, which is not here{kernel}"
    return None


def _left_out(seen: Evidence, name: str) -> bool:
    """Return whether a library is nowhere, though the device nodes are here."""
    here = nodes_of_nvidia(seen) or seen.report.failure is None
    return bool(here) and not_found(seen, name) and not unsearched(seen, name)


def _capabilities(seen: Evidence) -> str:
    value = seen.environ.get("NVIDIA_DRIVER_CAPABILITIES")
    return "" if value is None else f"; NVIDIA_DRIVER_CAPABILITIES={value}"


def _no_libraries(seen: Evidence) -> str | None:
    if _left_out(seen, NVML) and _left_out(seen, CUDA):
        return f"{nodes_of_nvidia(seen)[0]} is here; neither {NVML} nor {CUDA} is"
    return None


def _no_compute(seen: Evidence) -> str | None:
    if _left_out(seen, CUDA) and seen.given:
        return f"{seen.given.reason}{_capabilities(seen)}"
    return None


def _no_utility(seen: Evidence) -> str | None:
    return f"{seen.reason}{_capabilities(seen)}" if _left_out(seen, NVML) else None


def _mig_caps(seen: Evidence) -> str | None:
    instances = sum(len(gpu.mig_devices) for gpu in seen.gpus)
    caps = any(path.startswith("/dev/nvidia-caps/") for path in seen.hardware.device_nodes)
    if instances and not caps and seen.cuda and seen.cuda_error(*_NO_MIG_ACCESS):
        instances_here = f"{instances} MIG instance{'s' if instances > 1 else ''}"
        code = f"CUDA {seen.cuda.code}: {seen.cuda.name}"
        return f"{instances_here}, no /dev/nvidia-caps/nvidia-cap*; {code}"
    return None


def _imex_channel(seen: Evidence) -> str | None:
    folder = "/dev/nvidia-caps-imex-channels/"
    channel = any(path.startswith(folder) for path in seen.hardware.device_nodes)
    racks = [gpu for gpu in seen.gpus if any(name in gpu.name for name in ("GB200", "GB300"))]
    if racks and not channel and seen.cuda_error(800):
        return f"CUDA 800: CUDA_ERROR_NOT_PERMITTED; {racks[0].name} without {folder}channel*"
    return None


# --- warnings ------------------------------------------------------------------------------------


def _stay_with_own(seen: Evidence) -> str:
    listed = re.sub(r"::\d+", "", asked_for(seen) or "")  # of a device plugin's replicas
    if all(name.startswith(("GPU-", "MIG-")) for name in listed.split(",")):
        return f"in the container: export CUDA_VISIBLE_DEVICES={listed}; or run it unprivileged"
    return tell(seen.machine.host, "unprivileged")


def _sysfs_hidden(seen: Evidence) -> str | None:
    if seen.hardware.pci_hidden and seen.gpus and not seen.has_node("/dev/dxg"):
        return "/sys/bus/pci/devices is not here"
    return None


def _on_a_jetson(seen: Evidence) -> str:
    if place_of(seen.machine.host) != "docker":
        return f"{give_gpus_here(seen)}; with an image for L4T"
    return "docker run --runtime nvidia …   (on a Jetson, not --gpus), with an image for L4T"


def _allow_in_cgroup(seen: Evidence) -> str:
    give = give_gpus_here(seen).replace("run --gpus", "run --runtime=nvidia --gpus")
    return (
        f"{give}{by_hand(seen, 'not by -v /dev/nvidia0')}; if it stays, on the host: "
        "sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups=false --in-place"
    )


def _let_it_open(seen: Evidence) -> str:
    if not has_options(seen.machine.host):
        return use_nvidia_runtime(seen)
    return (
        "rootless Podman, on the host: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml; "
        "podman run --device nvidia.com/gpu=all --security-opt=label=disable "
        "--group-add keep-groups …"
    )


def _join_their_group(seen: Evidence) -> str:
    """Return how the user may open the nodes: by joining their group, or by another mode."""
    nodes = closed_to_user(seen)
    gids = dict.fromkeys(node.gid for node in nodes if node.gid and node.mode & 0o060 == 0o060)
    join = [tell(seen.machine.host, "group", gid) for gid in gids]
    if all(node.path == NVMAP for node in nodes):  # a Jetson's, whose driver has no such option
        return "; ".join(join) or f"on the host: sudo chmod 0666 {NVMAP}"
    mode = (
        "on the host: echo options nvidia NVreg_DeviceFileMode=0666 | sudo tee "
        "/etc/modprobe.d/nvidia-mode.conf, and reboot"
    )
    return "; or for all, ".join(["; ".join(join), mode] if join else [mode])


CHECKS: tuple[Check, ...] = (
    Check(
        "runtime.wsl_no_libraries", wsl_without_libraries, CPU_ONLY,
        "on Windows: update the NVIDIA driver, then wsl --update; in Docker then --gpus all",
    ),
    Check(
        "runtime.wsl_blocked", wsl_blocks, f"Windows keeps the GPU back: {CPU_ONLY}",
        "on Windows: update the NVIDIA driver, then wsl --update && wsl --shutdown; a data-center "
        "GPU must run in WDDM mode (nvidia-smi -dm 0), not TCC",
    ),
    Check(
        "runtime.jetson", is_jetson, CPU_ONLY,
        _on_a_jetson,
    ),
    Check(
        "runtime.gvisor_driver", gvisor_refuses, f"gVisor does not pass the driver on: {CPU_ONLY}",
        "on the host: runsc nvproxy list-supported-drivers; install one of them, and run runsc "
        "with --nvproxy",
    ),
    Check("runtime.none", none_asked_for, CPU_ONLY, give_gpus),
    Check("runtime.not_nvidia_runtime", not_followed, CPU_ONLY, use_nvidia_runtime),
    Check("runtime.kubernetes_not_requested", not_requested, CPU_ONLY, give_gpus),
    Check(
        "runtime.void", void_asked_for, CPU_ONLY,
        lambda seen: f"without NVIDIA_VISIBLE_DEVICES={asked_for(seen)}: {give_gpus_here(seen)}",
    ),
    Check("runtime.not_injected", not_injected, CPU_ONLY, give_gpus),
    Check(
        "runtime.control_node_missing", control_missing, CPU_ONLY,
        lambda seen: give_gpus_here(seen)
        + by_hand(seen, f"--device {CONTROL} --device {UVM} too"),
    ),
    Check(
        "runtime.user_permission", kept_from_user, CPU_ONLY, _join_their_group,
    ),
    Check(
        "runtime.permission", _permission, f"the GPU's nodes may not be opened: {CPU_ONLY}",
        _let_it_open,
    ),
    Check(
        "runtime.cgroup_lost", _cgroup_lost, "new processes get no GPU; old ones keep theirs",
        lambda seen: f"{anew(seen)}; to keep it from coming back, on the host: {_KEEP_DEVICES}",
    ),
    Check(
        "runtime.cgroup", _cgroup, f"the device cgroup keeps the GPU back: {CPU_ONLY}",
        _allow_in_cgroup,
    ),
    Check(
        "runtime.dead_node", lambda seen: refused(seen, "ENXIO", "ENODEV", "EIO"),
        "the kernel driver has no working GPU behind it",
        "on the host: sudo dmesg | grep -i -e nvrm -e xid; sudo nvidia-smi --gpu-reset, or reboot",
    ),
    Check(
        "runtime.nvml_unknown", _nvml_unknown, f"the driver refuses this container: {CPU_ONLY}",
        lambda seen: f"{anew(seen)}; if nvidia-smi fails on the host too: sudo dmesg | grep -i "
        "nvrm there, and reboot",
    ),
    Check(
        "runtime.stale_cdi", _stale_cdi, f"given as an older driver had it: {CPU_ONLY}",
        lambda seen: "on the host: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml; "
        f"then {anew(seen).removeprefix('on the host: ')}",
    ),
    Check(
        "runtime.no_libraries", _no_libraries, CPU_ONLY,
        lambda seen: f"{give_gpus_here(seen)}; devices alone bring no libraries",
    ),
    Check(
        "runtime.no_compute", _no_compute, f"GPUs are listed, CUDA cannot start: {CPU_ONLY}",
        with_capabilities,
    ),
    Check(
        "runtime.no_utility", lambda seen: None if cuda_works(seen) else _no_utility(seen),
        "GPUs cannot be listed or ordered, and CUDA is not known to work", with_capabilities,
    ),
    Check(
        "runtime.uvm_node_missing", uvm_missing, f"CUDA cannot start: {CPU_ONLY}",
        lambda seen: f"on the host: sudo nvidia-modprobe -u -c=0; then {give_gpus_here(seen)}",
    ),
    Check(
        "runtime.gpu_node_missing", gpu_missing, "CUDA cannot open what has no device node",
        lambda seen: give_gpus_here(seen) + by_hand(seen, "--device for each /dev/nvidiaN"),
    ),
    Check(
        "runtime.mig_caps", _mig_caps, "MIG instances may not be opened",
        lambda seen: give_named(
            seen, next(uuid for gpu in seen.gpus for uuid in gpu.mig_uuids)
        ),
    ),
    Check(
        "runtime.imex_channel", _imex_channel, "memory cannot be shared between the nodes",
        lambda seen: tell(seen.machine.host, "variable", "NVIDIA_IMEX_CHANNELS=0")
        + ", under the NVIDIA runtime (Kubernetes: a ComputeDomain)",
    ),
    Check("runtime.threads_forbidden", threads, THREADS_MEAN, update),
    Check(
        "runtime.no_management", lambda seen: _no_utility(seen) if cuda_works(seen) else None,
        "CUDA works, GPUs cannot be listed or ordered", with_capabilities, warning=True,
    ),
    Check(
        "runtime.leak", leak, "CUDA may take GPUs that others use", _stay_with_own, warning=True,
    ),
    Check(
        "runtime.sysfs_hidden", _sysfs_hidden, "how the GPUs are connected cannot be seen",
        "take the mask or mount over /sys away; gVisor has none of it", warning=True,
    ),
)  # fmt: skip
