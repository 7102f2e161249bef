"""Judge what detect found: why are there no usable GPUs?  Pure.

A table, lowest layer first; the first row that applies is the answer.  Every row says what
is wrong, what it means for the user, and what to type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from launcher.machine import DriverFailure, GpuReport, Hardware
from launcher.model import Finding

_CPU = "everything runs on the CPU"
_RUN_WITH_GPUS = (
    "docker run --gpus all …   (Compose: deploy.resources.reservations.devices; "
    "Kubernetes: resources.limits nvidia.com/gpu: 1; Podman: --device nvidia.com/gpu=all)"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checks look at."""

    report: GpuReport
    hardware: Hardware
    environ: dict[str, str]

    @property
    def failure(self) -> DriverFailure | None:
        return self.report.failure

    def nvml(self, code: int) -> bool:
        return self.failure is not None and self.failure.code == code


@dataclass(frozen=True, slots=True)
class Check:
    """One way to have no GPU.  `applies` assumes that no row above it did."""

    id: str
    applies: Callable[[Evidence], bool]
    what: Callable[[Evidence], str]
    fix: str
    means: str = _CPU


def _cards(seen: Evidence) -> str:
    count = len(seen.hardware.pci_ids)
    return f"{count} NVIDIA GPU{'s' if count > 1 else ''}"


def _reason(seen: Evidence) -> str:
    return seen.failure.reason if seen.failure else "NVML counts no device"


CHECKS: tuple[Check, ...] = (
    Check(
        "driver.hung",
        lambda seen: seen.failure is not None and seen.failure.kind == "hung",
        lambda seen: f"the NVIDIA driver does not answer: {_reason(seen)}",
        "on the host: sudo dmesg | grep -i -e nvrm -e xid; a reboot frees a hung driver",
    ),
    Check(
        "driver.crashed",
        lambda seen: seen.failure is not None and seen.failure.kind == "crashed",
        lambda seen: f"the NVIDIA driver library crashed: {_reason(seen)}",
        "remove any libnvidia-ml.so.1 that the image brings along; start the container anew",
    ),
    Check(
        "runtime.not_injected",
        lambda seen: bool(
            seen.hardware.kernel_driver
            and not seen.hardware.device_nodes
            and seen.failure
            and seen.failure.kind == "library"
        ),
        lambda seen: (
            (
                f"this machine has {_cards(seen)} and driver"
                if seen.hardware.pci_ids
                else "this machine has NVIDIA driver"
            )
            + f" {seen.hardware.kernel_driver}, but the container was started without them"
        ),
        _RUN_WITH_GPUS,
    ),
    Check(
        "runtime.no_utility",
        lambda seen: bool(
            seen.hardware.device_nodes and seen.failure and seen.failure.kind == "library"
        ),
        lambda seen: f"the GPU is here, its management library is not: {_reason(seen)}",
        "docker run -e NVIDIA_DRIVER_CAPABILITIES=compute,utility …",
        means="CUDA may work, but GPUs cannot be listed or ordered",
    ),
    Check(
        "driver.not_loaded",
        lambda seen: bool(seen.hardware.pci_ids and not seen.hardware.kernel_driver),
        lambda seen: f"this machine has {_cards(seen)}, but the host loaded no NVIDIA driver",
        "on the host: sudo modprobe nvidia (or install the driver), then start anew",
    ),
    Check(
        "driver.absent",
        lambda seen: seen.failure is not None and seen.failure.kind == "library",
        lambda seen: "no NVIDIA GPU and no NVIDIA driver on this machine",
        "none needed on a CPU machine; on a GPU machine install the NVIDIA driver on the host",
    ),
    Check(
        "driver.mismatch",
        lambda seen: seen.nvml(18),
        lambda seen: f"driver library and kernel module differ: {_reason(seen)}",
        "on the host: reboot, or sudo rmmod nvidia_drm nvidia_modeset nvidia_uvm nvidia && "
        "sudo modprobe nvidia; then create the container anew",
    ),
    Check(
        "driver.not_loaded_nvml",
        lambda seen: seen.nvml(9),
        lambda seen: f"the host's NVIDIA kernel module is not loaded: {_reason(seen)}",
        "on the host: sudo modprobe nvidia && dkms status; then start the container anew",
    ),
    Check(
        "runtime.permission",
        lambda seen: seen.nvml(4),
        lambda seen: f"the device nodes may not be opened: {_reason(seen)}",
        "rootless: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, then "
        "--device nvidia.com/gpu=all --security-opt=label=disable",
    ),
    Check(
        "runtime.cgroup",
        lambda seen: seen.nvml(999) or seen.nvml(17),
        lambda seen: f"the GPU is blocked for this container: {_reason(seen)}",
        "create the container anew; to keep it from coming back, on the host: "
        "sudo nvidia-ctk system create-dev-char-symlinks --create-all",
    ),
    Check(
        "driver.nvml",
        lambda seen: seen.failure is not None,
        lambda seen: f"NVML failed with code {seen.failure and seen.failure.code}: {_reason(seen)}",
        "on the host: nvidia-smi; sudo dmesg | grep -i nvrm",
    ),
    Check(
        "runtime.no_devices",
        lambda seen: (
            not seen.report.gpus
            and not seen.report.lost
            and seen.environ.get("NVIDIA_VISIBLE_DEVICES") == "none"
        ),
        lambda seen: "NVIDIA_VISIBLE_DEVICES=none gives the driver without a device",
        "docker run --gpus all …  without that variable",
    ),
    Check(
        "hardware.none",
        lambda seen: not seen.report.gpus and not seen.report.lost,
        lambda seen: "the driver works and counts no GPU",
        "on the host: nvidia-smi -L; sudo dmesg | grep -i nvrm",
    ),
    Check(
        "hardware.all_lost",
        lambda seen: not seen.report.gpus,
        lambda seen: (
            "no GPU can be opened: "
            + "; ".join(f"GPU {gpu.index}: {gpu.error}" for gpu in seen.report.lost)
        ),
        "on the host: sudo nvidia-smi --gpu-reset, or reboot",
    ),
)


def diagnose(seen: Evidence) -> Finding | None:
    """Return why no GPU is usable, or None where some are."""
    for check in CHECKS:
        if check.applies(seen):
            return Finding(check.id, check.what(seen), check.means, check.fix)
    return None
