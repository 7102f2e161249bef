"""The checks of the layer "driver" where NVML works: what CUDA needs of the host beside.  Pure."""

from __future__ import annotations

import re

from launcher.checks.check import Check
from launcher.model.evidence import Evidence

_NOT_INITIALIZED, _NOT_READY, _UNKNOWN = 3, 802, 999  # CUresult, cuda.h

# On HGX and DGX boards, whose GPUs reach each other through NVSwitches only, CUDA waits for the
# fabric manager.  Their names: "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200".
_ON_SWITCH_BOARD = re.compile(r"SXM|HBM3$|\bH200$|\bH800$|\bH20\b|\bB[23]00\b")

# Cards with a display have a program that keeps them ready, and no use for persistence mode.
_DESKTOP = re.compile(r"GeForce|TITAN|Quadro|RTX")


def _said_by_cuda(seen: Evidence) -> str:
    trial = seen.cuda
    return f"CUDA {trial.code}: {trial.name or trial.reason}" if trial else ""


def _uvm_not_loaded(seen: Evidence) -> str | None:
    modules = seen.hardware.modules or ()
    if not seen.gpus or "nvidia" not in modules or "nvidia_uvm" in modules:
        return None
    what = "the host's kernel has loaded nvidia, but not nvidia_uvm"
    if seen.cuda_error(_UNKNOWN):
        return f"{what}; {_said_by_cuda(seen)}"
    absent = not seen.has_node("/dev/nvidia-uvm") and not seen.has_node("/dev/nvmap")
    return f"{what}; no /dev/nvidia-uvm" if absent and seen.cuda is None else None


def _fabric_manager(seen: Evidence) -> str | None:
    # MIG instances do not use NVLink, so they do not wait for the fabric.
    waiting = [
        gpu
        for gpu in seen.gpus
        if gpu.fabric in ("not started", "in progress") and not gpu.mig_enabled
    ]
    state = f"GPU {waiting[0].index}: NVSwitch fabric {waiting[0].fabric}" if waiting else ""
    if seen.cuda is None:
        return state or None
    on_board = any(
        _ON_SWITCH_BOARD.search(gpu.name) or any(links.to == "switch" for links in gpu.nvlinks)
        for gpu in seen.gpus
    )
    if not seen.cuda_error(_NOT_READY) or not (state or on_board):
        return None
    return "; ".join(filter(None, (_said_by_cuda(seen), state)))


def _start_fabric_manager(seen: Evidence) -> str:
    version = seen.hardware.kernel_driver or seen.report.driver_version or ""
    branch = version.partition(".")[0] or "BRANCH"
    return (
        f"on the host: sudo apt install nvidia-fabricmanager-{branch} (version {version}, as the "
        "driver) && sudo systemctl enable --now nvidia-fabricmanager"
    )


def _hmm(seen: Evidence) -> str | None:
    if not seen.cuda_error(_NOT_INITIALIZED) or not seen.gpus or not seen.hardware.open_module:
        return None
    return f"{_said_by_cuda(seen)}, with the open kernel module {seen.hardware.kernel_driver}"


def _persistence_off(seen: Evidence) -> str | None:
    off = [gpu for gpu in seen.gpus if gpu.persistence is False and not _DESKTOP.search(gpu.name)]
    return f"GPU {off[0].index} of {len(seen.gpus)}: persistence mode is off" if off else None


CHECKS: tuple[Check, ...] = (
    Check(
        "driver.uvm_not_loaded",
        _uvm_not_loaded,
        "CUDA cannot start without it",
        "on the host: sudo nvidia-modprobe -u -c=0; then create the container anew",
    ),
    Check(
        "driver.fabric_manager",
        _fabric_manager,
        "CUDA waits for the host's fabric manager",
        _start_fabric_manager,
    ),
    Check(
        "driver.hmm",
        _hmm,
        "CUDA does not start: HMM fails on some kernels with KASLR",
        "on the host: echo options nvidia_uvm uvm_disable_hmm=1 | sudo tee "
        "/etc/modprobe.d/uvm.conf && sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm",
    ),
    Check(
        "driver.persistence_off",
        _persistence_off,
        "each program that finds the GPU idle waits seconds for it to start",
        "on the host: sudo systemctl enable --now nvidia-persistenced (or nvidia-smi -pm 1)",
        warning=True,
    ),
)
