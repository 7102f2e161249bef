"""The checks of the layer "driver": is the host's kernel module there, and the right one?  Pure."""

from __future__ import annotations

import re

from launcher.checks.check import CPU_ONLY, Check, joined_worse, nvml_words
from launcher.checks.facts.cards import (
    LAST_BRANCH,
    before_turing,
    blackwell_or_later,
    in_words,
    last_branch,
)
from launcher.checks.facts.device_nodes import nodes_of_nvidia
from launcher.model.evidence import Evidence

# nvmlReturn_t, nvml.h
_NOT_LOADED, _TIMEOUT, _MISMATCH = 9, 10, 18
# Insufficient permissions, blocked by the operating system, unknown: the runtime's layer.
_OF_RUNTIME = (4, 17, 999)

_OLDEST_FOR_CUDA_12 = 525  # CUDA Compatibility, "Minor Version Compatibility", table 1

_NOT_INITIALIZED, _NOT_READY, _UNKNOWN = 3, 802, 999  # CUresult, cuda.h

# On HGX and DGX boards, whose GPUs reach each other through NVSwitches only, CUDA waits for the
# fabric manager.  Their names: "NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3", "NVIDIA H200".
_ON_SWITCH_BOARD = r"SXM|HBM3$|\bH200$|\bH800$|\bH20\b|\bB[23]00\b"

# Cards with a display have a program that keeps them ready, and no use for persistence mode.
_DESKTOP = r"GeForce|TITAN|Quadro|RTX"
_SLOW = 5.0  # seconds: whoever keeps them ready, nobody does it here

_LOOK = "on the host: sudo dmesg | grep -i -e nvrm -e xid"


def _hung(seen: Evidence) -> str | None:
    failed = seen.driver_failed("hung")
    return f"the NVIDIA driver does not answer: {seen.reason}" if failed else None


def _crashed(seen: Evidence) -> str | None:
    failed = seen.driver_failed("crashed")
    return f"the NVIDIA driver library crashed: {seen.reason}" if failed else None


def _remove_library(seen: Evidence) -> str:
    library = seen.taken("libnvidia-ml.so.1")
    where = library.path if library else "any libnvidia-ml.so.1"
    return (
        f"in the image: remove {where} if a package brought it (dpkg -S); "
        "else on the host: reinstall the driver"
    )


# --- No kernel module --------------------------------------------------------------------------


def _no_module(seen: Evidence) -> bool:
    """Return whether there are cards, and nothing at all of NVIDIA's kernel module."""
    shown = _module_shows(seen) or nodes_of_nvidia(seen)
    return bool(seen.hardware.pci and not shown and not seen.gpus and not seen.lost)


def _module_shows(seen: Evidence) -> bool:
    hardware = seen.hardware
    bound = any(card.driver == "nvidia" for card in hardware.pci)
    return bool(hardware.kernel_driver or bound or "nvidia" in (hardware.modules or ()))


def _nouveau(seen: Evidence) -> str | None:
    cards = [card for card in seen.hardware.pci if card.driver == "nouveau"]
    return f"{in_words(cards)}, driven by nouveau" if cards and _no_module(seen) else None


def _vfio(seen: Evidence) -> str | None:
    cards, report = seen.hardware.pci, seen.report
    away = bool(cards) and all(card.driver == "vfio-pci" for card in cards)
    return f"{in_words(cards)}, bound to vfio-pci" if away and not report.gpus else None


def _take_back(seen: Evidence) -> str:
    address = seen.hardware.pci[0].address
    return (
        "use it in the VM that it is reserved for, or take it back, on the host: "
        f"sudo driverctl unset-override {address} && sudo modprobe nvidia"
    )


def _not_loaded(seen: Evidence) -> str | None:
    if not _no_module(seen):
        return None
    what = f"{in_words(seen.hardware.pci)}, but the host loaded no NVIDIA driver"
    return f"{what}; {nvml_words(seen)}" if seen.nvml(_NOT_LOADED) else what


def _load(seen: Evidence) -> str:
    package = f"nvidia-driver-{last_branch(before_turing(seen.hardware.pci))}"
    if blackwell_or_later(seen.hardware.pci):
        package += "-open"
    elif not before_turing(seen.hardware.pci):
        return (
            "on the host: sudo modprobe nvidia; if there is no such module: "
            "sudo ubuntu-drivers install && sudo reboot; then create the container anew"
        )
    # A module of the other kind refuses the card, and is not loaded for want of any other.
    return (
        "on the host: sudo modprobe nvidia; if it fails, install the kind this card needs: "
        f"sudo apt install {package} && sudo reboot"
    )


def _not_loaded_nvml(seen: Evidence) -> str | None:
    # With a module loaded, NVML says the same where the container was given no device node.
    here = not _module_shows(seen) and not seen.has_node("/dev/dxg")  # WSL's module is Windows'
    return nvml_words(seen) if seen.nvml(_NOT_LOADED) and here else None


# --- Another version ---------------------------------------------------------------------------


def _mismatch(seen: Evidence) -> str | None:
    module = seen.hardware.kernel_driver
    found = [lib for lib in seen.libraries if lib.name.startswith("libnvidia-ml")]
    if not seen.nvml(_MISMATCH) or any(lib.version == module for lib in found if module):
        return None
    taken = seen.taken("libnvidia-ml.so.1")
    library = f", library {taken.version}" if taken and taken.version else ""
    return f"{nvml_words(seen)}; kernel module {module or 'unknown'}{library}"


def _too_old(seen: Evidence) -> str | None:
    version = seen.hardware.kernel_driver or seen.report.driver_version or ""
    torch = seen.torch
    works = torch is not None and (torch.available or (torch.cuda or "").startswith("11."))
    # A Jetson's driver has the version of its Linux for Tegra.
    if works or not version or seen.has_node("/dev/nvmap"):
        return None
    old = int(version.partition(".")[0]) < _OLDEST_FOR_CUDA_12
    return f"driver {version} on the host" if old else None


def _last_of_old_cards(seen: Evidence) -> int:
    """Return the last branch for what is here, by compute capability where NVML tells it."""
    told = [gpu.compute_capability for gpu in seen.gpus if gpu.compute_capability]
    if told:
        return 390 if min(told) < (3, 0) else 470 if min(told) < (5, 0) else LAST_BRANCH
    return last_branch(before_turing(seen.hardware.pci))


def _update(seen: Evidence) -> str:
    branch = _last_of_old_cards(seen)
    if branch < LAST_BRANCH:
        return (
            f"none: {branch} is this card's last driver, and another takes the card away. Use an "
            "older PyTorch for CUDA 11 that has code for it (torch.cuda.get_arch_list()), the CPU "
            "(LAUNCHER_GPUS=none), or another card"
        )
    if seen.platform == "wsl2":
        return "on Windows: install NVIDIA's current driver, then wsl --update"
    return "on the host: sudo apt install nvidia-driver-580 && sudo reboot"


# --- NVML fails in another way -----------------------------------------------------------------


def _nvml(seen: Evidence) -> str | None:
    # Without its control node the library takes the driver for missing.
    not_given = seen.nvml(_NOT_LOADED) and not seen.has_node("/dev/nvidiactl")
    others = not_given or seen.nvml(_MISMATCH, *_OF_RUNTIME) or seen.platform == "gvisor"
    others = others or seen.has_node("/dev/dxg")
    return nvml_words(seen) if seen.driver_failed("nvml") and not others else None


def _timeout(seen: Evidence) -> str | None:
    return nvml_words(seen) if seen.nvml(_TIMEOUT) else None


# --- NVML works: what CUDA needs of the host besides ---------------------------------------------


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
        re.search(_ON_SWITCH_BOARD, gpu.name) or any(links.to == "switch" for links in gpu.nvlinks)
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
    seconds = seen.report.seconds or 0.0
    slow = seconds >= _SLOW
    off = [
        gpu
        for gpu in seen.gpus
        if gpu.persistence is False and (slow or not re.search(_DESKTOP, gpu.name))
    ]
    if not off:
        return None
    took = f", and the driver took {seconds:.0f} s to answer" if slow else ""
    return f"GPU {off[0].index} of {len(seen.gpus)}: persistence mode is off{took}"


CHECKS: tuple[Check, ...] = (
    Check("driver.hung", _hung, CPU_ONLY, f"{_LOOK}; only a reboot frees a hung driver"),
    Check("driver.crashed", _crashed, CPU_ONLY, _remove_library),
    Check(
        "driver.nouveau", _nouveau, f"CUDA needs NVIDIA's own driver: {CPU_ONLY}",
        "on the host: sudo ubuntu-drivers install && sudo reboot  (it keeps nouveau away)",
    ),
    Check(
        "driver.vfio", _vfio, f"it is passed through to a virtual machine: {CPU_ONLY}", _take_back
    ),
    Check("driver.not_loaded", _not_loaded, CPU_ONLY, _load),
    Check(
        "driver.not_loaded_nvml", _not_loaded_nvml, f"the host's kernel module is gone: {CPU_ONLY}",
        "on the host: sudo modprobe nvidia; dkms status; then create the container anew",
    ),
    Check(
        "driver.mismatch", _mismatch,
        "the driver was updated and the old module still runs: no program can use a GPU",
        "create the container anew; if nvidia-smi fails on the host too: sudo reboot",
    ),
    Check(
        "driver.too_old", _too_old, f"PyTorch for CUDA 12 needs {_OLDEST_FOR_CUDA_12} or newer",
        _update,
    ),
    Check(
        "driver.timeout", _timeout, "the driver gave up waiting for a GPU",
        f"{_LOOK}; then sudo reboot",
    ),
    Check(
        "driver.nvml", _nvml, "the driver does not start",
        "on the host: nvidia-smi; sudo dmesg | grep -i nvrm",
    ),
    Check(
        "driver.uvm_not_loaded", _uvm_not_loaded, "CUDA cannot start without it",
        "on the host: sudo nvidia-modprobe -u -c=0; then create the container anew",
    ),
    Check(
        "driver.fabric_manager", _fabric_manager, "CUDA waits for the host's fabric manager",
        _start_fabric_manager,
    ),
    *joined_worse("driver.", unless=_fabric_manager),
    Check(
        "driver.hmm", _hmm, "CUDA does not start: HMM fails on some kernels with KASLR",
        "on the host: echo options nvidia_uvm uvm_disable_hmm=1 | sudo tee "
        "/etc/modprobe.d/uvm.conf && sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm",
    ),
    Check(
        "driver.persistence_off", _persistence_off,
        "each program that finds the GPU idle waits seconds for it to start",
        "on the host: sudo systemctl enable --now nvidia-persistenced (or nvidia-smi -pm 1)",
        warning=True,
    ),
)  # fmt: skip
