"""The checks of the layer "driver": is the host's kernel module there, and the right one?  Pure."""

from __future__ import annotations

from launcher.checks import host
from launcher.checks.cards import before_turing, blackwell_or_later, in_words
from launcher.checks.check import CPU_ONLY, Check, nvml_words
from launcher.checks.device_nodes import nodes_of_nvidia
from launcher.model.evidence import Evidence

# nvmlReturn_t, nvml.h
_NOT_LOADED, _TIMEOUT, _MISMATCH = 9, 10, 18
# Insufficient permissions, blocked by the operating system, unknown: the runtime's layer.
_OF_RUNTIME = (4, 17, 999)

_OLDEST_FOR_CUDA_12 = 525  # CUDA Compatibility, "Minor Version Compatibility", table 1

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
    package = "nvidia-driver-580"
    if blackwell_or_later(seen.hardware.pci):
        package += "-open"
    elif not before_turing(seen.hardware.pci):
        return (
            "on the host: sudo modprobe nvidia; if there is no such module: "
            "sudo ubuntu-drivers install && sudo reboot; then start the container anew"
        )
    # A module of the other kind refuses the card, and is not loaded for want of any other.
    return (
        "on the host: sudo modprobe nvidia; if it fails, install the kind this card needs: "
        f"sudo apt install {package} && sudo reboot"
    )


def _not_loaded_nvml(seen: Evidence) -> str | None:
    # With a module loaded, NVML says the same where the container was given no device node.
    return nvml_words(seen) if seen.nvml(_NOT_LOADED) and not _module_shows(seen) else None


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


def _update(seen: Evidence) -> str:
    if seen.platform == "wsl2":
        return "on Windows: install NVIDIA's current driver, then wsl --update"
    return "on the host: sudo apt install nvidia-driver-580 && sudo reboot"


# --- NVML fails in another way -----------------------------------------------------------------


def _nvml(seen: Evidence) -> str | None:
    # Without its control node the library takes the driver for missing.
    not_given = seen.nvml(_NOT_LOADED) and not seen.has_node("/dev/nvidiactl")
    others = not_given or seen.nvml(_MISMATCH, *_OF_RUNTIME) or seen.platform == "gvisor"
    return nvml_words(seen) if seen.driver_failed("nvml") and not others else None


def _timeout(seen: Evidence) -> str | None:
    return nvml_words(seen) if seen.nvml(_TIMEOUT) else None


CHECKS: tuple[Check, ...] = (
    Check("driver.hung", _hung, CPU_ONLY, f"{_LOOK}; only a reboot frees a hung driver"),
    Check("driver.crashed", _crashed, CPU_ONLY, _remove_library),
    Check(
        "driver.nouveau",
        _nouveau,
        f"CUDA needs NVIDIA's own driver: {CPU_ONLY}",
        "on the host: sudo ubuntu-drivers install && sudo reboot  (it keeps nouveau away)",
    ),
    Check(
        "driver.vfio", _vfio, f"it is passed through to a virtual machine: {CPU_ONLY}", _take_back
    ),
    Check("driver.not_loaded", _not_loaded, CPU_ONLY, _load),
    Check(
        "driver.not_loaded_nvml",
        _not_loaded_nvml,
        f"the host's kernel module is gone: {CPU_ONLY}",
        "on the host: sudo modprobe nvidia; dkms status; then create the container anew",
    ),
    Check(
        "driver.mismatch",
        _mismatch,
        "the driver was updated and the old module still runs: no program can use a GPU",
        "create the container anew; if nvidia-smi fails on the host too: sudo reboot",
    ),
    Check(
        "driver.too_old",
        _too_old,
        f"PyTorch for CUDA 12 needs {_OLDEST_FOR_CUDA_12} or newer",
        _update,
    ),
    Check(
        "driver.timeout",
        _timeout,
        "the driver gave up waiting for a GPU",
        f"{_LOOK}; then sudo reboot",
    ),
    Check(
        "driver.nvml",
        _nvml,
        "the driver does not start",
        "on the host: nvidia-smi; sudo dmesg | grep -i nvrm",
    ),
    *host.CHECKS,
)
