"""What the container was not given, or may not use."""

from __future__ import annotations

import sys

from testing import forbidden
from testing.doctor.scenario import Scenario
from testing.doctor.tree import (
    CONTROL,
    LIBRARIES,
    PCI,
    UVM,
    answering,
    blocked,
    dead,
    given,
    linked,
    of_group,
    of_mode,
    removed,
    written,
)
from tests.doctor.causes.hardware import NO_GPU_ANSWERS, NOTHING_INJECTED

# root without the capability that lets it open everything: what a rootless container's root is.
NOT_ALMIGHTY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


def below_a_filter(*calls: str) -> tuple[str, ...]:
    return (sys.executable, forbidden.__file__, ",".join(calls))


RUNTIME = (
    Scenario(
        "clone3-forbidden", "An engine whose seccomp filter is older than clone3.",
        "runtime.threads_forbidden", wrapper=below_a_filter("clone3"),
        seen=("clone3", "EPERM"), names=("20.10.10", "seccomp=unconfined"),
    ),
    Scenario(
        "not-injected", "The container was started without its GPU.", "runtime.not_injected",
        tree=(NOTHING_INJECTED,), seen=("RTX 3090", "550.127"), names=("--gpus all",),
    ),
    Scenario(
        "not-injected-wsl", "The same, in a container on WSL.", "runtime.wsl_no_libraries",
        tree=(NOTHING_INJECTED, removed("proc/driver/nvidia", "sys/bus/pci/devices/*"),
              written("dev/dxg", "")),
        names=("--gpus all",),
    ),
    Scenario(
        "void", "NVIDIA_VISIBLE_DEVICES=void.", "runtime.void",
        tree=(NOTHING_INJECTED,), environ={"NVIDIA_VISIBLE_DEVICES": "void"},
        names=("NVIDIA_VISIBLE_DEVICES",),
    ),
    Scenario(
        "none", "NVIDIA_VISIBLE_DEVICES=none: the libraries, and no device.", "runtime.none",
        tree=(given(),), environ={"NVIDIA_VISIBLE_DEVICES": "none"},
        seen=("NVIDIA_VISIBLE_DEVICES=none",), names=("--gpus all",),
    ),
    Scenario(
        "not-nvidia-runtime", "Devices were asked for, and NVIDIA's runtime was not used.",
        "runtime.not_nvidia_runtime",
        tree=(NOTHING_INJECTED,), environ={"NVIDIA_VISIBLE_DEVICES": "0,1"},
        names=("nvidia-ctk runtime configure",),
    ),
    Scenario(
        "kubernetes", "A pod without a GPU in its limits.", "runtime.kubernetes_not_requested",
        tree=(NOTHING_INJECTED,), environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        names=("nvidia.com/gpu",),
    ),
    Scenario(
        "utility-only", "NVIDIA_DRIVER_CAPABILITIES=utility.", "runtime.no_compute",
        tree=(removed(f"{LIBRARIES}/libcuda*"),),
        environ={"NVIDIA_DRIVER_CAPABILITIES": "utility"},
        seen=("libcuda.so.1",), names=("NVIDIA_DRIVER_CAPABILITIES=compute,utility",),
    ),
    Scenario(
        "compute-only", "NVIDIA_DRIVER_CAPABILITIES=compute: CUDA works, NVML is missing.",
        tree=(removed(f"{LIBRARIES}/libnvidia-ml*"),),
        environ={"NVIDIA_DRIVER_CAPABILITIES": "compute"},
        warns=("runtime.no_management",), names=("NVIDIA_DRIVER_CAPABILITIES=compute,utility",),
    ),
    Scenario(
        "compute-only-fails", "The same, where CUDA does not work either.", "runtime.no_utility",
        tree=(removed(f"{LIBRARIES}/libnvidia-ml*"),),
        changes={"faults": {"cuInit": "return 999"}},
        environ={"NVIDIA_DRIVER_CAPABILITIES": "compute"},
        names=("NVIDIA_DRIVER_CAPABILITIES=compute,utility",),
    ),
    Scenario(
        "nodes-only", "--device alone: the nodes, and neither NVML nor CUDA.",
        "runtime.no_libraries", tree=(removed(f"{LIBRARIES}/*"),), names=("--gpus all",),
    ),
    Scenario(
        "nvml-unknown", "NVML fails, and the device nodes open.", "runtime.nvml_unknown",
        changes={"faults": {"nvmlInit": "return 999", "cuInit": "return 999"}}, seen=("999",),
    ),
    Scenario(
        "cgroup-lost", "The devices worked, then the engine's cgroup was loaded anew.",
        "runtime.cgroup_lost", started_well=True,
        tree=(
            blocked(CONTROL),
            answering(LIBRARIES, {"faults": {"nvmlInit": "return 999", "cuInit": "return 100"}}),
        ),
        seen=("EPERM",),
    ),
    Scenario(
        "cgroup", "The device cgroup forbids the devices from the start.", "runtime.cgroup",
        changes={"faults": {"nvmlInit": "return 999", "cuInit": "return 100"}},
        tree=(blocked(CONTROL),), seen=("EPERM",),
    ),
    Scenario(
        "permission", "The nodes belong to somebody else: rootless, or SELinux.",
        "runtime.permission",
        changes={"faults": {"nvmlInit": "return 4", "cuInit": "return 100"}},
        tree=(of_mode(CONTROL, 0),), wrapper=NOT_ALMIGHTY, needs_root=True,
    ),
    Scenario(
        "user-permission", "Root may open the nodes, the user's programs may not.",
        "runtime.user_permission", started_well=True, needs_root=True,
        environ={"NB_USER": "nobody"},
        changes={"faults": {"cuInit": "return 100"}},
        tree=(of_mode(CONTROL, 0o600), of_mode(UVM, 0o600),
              of_mode("dev/nvidia0", 0o600), of_mode("dev/nvidia1", 0o600)),
        seen=("nobody", "0600"), names=("NVreg_DeviceFileMode=0666",),
    ),
    Scenario(
        "user-group", "The nodes are for a group whose number is sudo's here.",
        "runtime.user_permission", started_well=True, needs_root=True,
        environ={"NB_USER": "nobody"}, changes={"faults": {"cuInit": "return 100"}},
        tree=(of_group(CONTROL, 27), of_group(UVM, 27), of_group("dev/nvidia0", 27),
              of_group("dev/nvidia1", 27)),
        seen=("nobody", "0660, 0:27"), names=("docker run --group-add 27",),
    ),
    Scenario(
        "no-control-node", "/dev/nvidiactl is missing.", "runtime.control_node_missing",
        changes={"faults": {"nvmlInit": "return 9", "cuInit": "return 100"}},
        tree=(removed(CONTROL),), names=("/dev/nvidiactl",),
    ),
    Scenario(
        "no-uvm-node", "/dev/nvidia-uvm is missing.", "runtime.uvm_node_missing",
        changes={"faults": {"cuInit": "return 999"}},
        tree=(removed("dev/nvidia-uvm*"),), seen=("/dev/nvidia-uvm", "999"),
        names=("nvidia-modprobe -u",),
    ),
    Scenario(
        "no-gpu-node", "A GPU without its device node.", "runtime.gpu_node_missing",
        changes={"gpu 1": {"state": "no-cuda"}}, tree=(removed("dev/nvidia1"),),
        seen=("/dev/nvidia1",), names=("--device",),
    ),
    Scenario(
        "only-gpu-node", "The only GPU's node is missing, so NVML counts none.",
        "runtime.gpu_node_missing", gpus=NO_GPU_ANSWERS,
        seen=("/dev/nvidia0",), names=("--gpus all",),
        tree=(
            written(f"{PCI}/0000:0a:00.0/vendor", "0x10de\n"),
            written(f"{PCI}/0000:0a:00.0/class", "0x030000\n"),
            written(f"{PCI}/0000:0a:00.0/device", "0x2335\n"),
            written("proc/driver/nvidia/gpus/0000:0a:00.0/information",
                    "GPU UUID: \t GPU-6968c59a\nDevice Minor: \t 0\n"),
        ),
    ),
    Scenario(
        "dead-node", "A device node without a device behind it.", "runtime.dead_node",
        changes={"faults": {"nvmlInit": "return 999", "cuInit": "return 100"}},
        tree=(dead(CONTROL),), seen=("ENXIO",),
    ),
    Scenario(
        "stale-cdi", "A CDI specification of an older driver.", "runtime.stale_cdi",
        tree=(
            removed(f"{LIBRARIES}/libcuda.so.550*"),
            linked(f"{LIBRARIES}/libcuda.so.1", "libcuda.so.545.23.08"),
        ),
        names=("nvidia-ctk cdi generate",),
    ),
    Scenario(
        "mig-caps", "MIG instances without their device nodes.", "runtime.mig_caps",
        machine="a100-mig", changes={"faults": {"cuInit": "return 100"}},
        tree=(removed("dev/nvidia-caps"),),
    ),
    Scenario(
        "wsl-blocked", "WSL: the operating system blocks the GPU.", "runtime.wsl_blocked",
        changes={"faults": {"nvmlInit": "return 17", "cuInit": "return 100"}},
        tree=(removed("dev/nvidia*", "proc/driver/nvidia", "sys/bus/pci/devices/*"),
              written("dev/dxg", "")),
        names=("wsl --update",),
    ),
    Scenario(
        "gvisor", "gVisor does not know this driver.", "runtime.gvisor_driver",
        changes={"faults": {"nvmlInit": "return 999", "cuInit": "return 999"}},
        tree=(written("proc/version", "Linux version 4.4.0 (gVisor)\n"),), names=("runsc",),
    ),
    Scenario(
        "jetson", "A Jetson, whose libraries the container was not given.", "runtime.jetson",
        tree=(NOTHING_INJECTED, removed("proc/driver/nvidia", "sys/bus/pci/devices/*"),
              written("dev/nvmap", "")),
        names=("--runtime nvidia",),
    ),
    Scenario(
        "imex", "A node of a multi-node NVLink machine without its IMEX channel.",
        "runtime.imex_channel", machine="h100-8x",
        changes={"gpu *": {"name": "NVIDIA GB200"}, "faults": {"cuInit": "return 800"}},
        names=("NVIDIA_IMEX_CHANNELS",),
    ),
    Scenario(
        "leak", "The container sees more GPUs than it was given.",
        environ={"NVIDIA_VISIBLE_DEVICES": "0"}, warns=("runtime.leak",),
    ),
    Scenario(
        "no-sysfs", "The PCI bus is hidden.", tree=(removed("sys/bus/pci/devices"),),
        warns=("runtime.sysfs_hidden",),
    ),
)  # fmt: skip
