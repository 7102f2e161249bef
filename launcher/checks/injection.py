"""The checks of the layer "runtime" where nothing was given, or on platforms of another kind.

Pure.
"""

from __future__ import annotations

from launcher.checks.check import CPU_ONLY, Check, nvml_words
from launcher.checks.device_nodes import cuda_works, gpu_nodes, nodes_of_nvidia
from launcher.checks.how_to_run import cards, give_gpus, give_gpus_here, use_nvidia_runtime
from launcher.checks.library_files import NVML, not_found, unsearched
from launcher.model.evidence import Evidence


def asked_for(seen: Evidence) -> str | None:
    """Return the value of NVIDIA_VISIBLE_DEVICES; the image itself sets "all"."""
    value = seen.environ.get("NVIDIA_VISIBLE_DEVICES")
    return value if value is None else value.strip()


# --- platforms of another kind -------------------------------------------------------------------


def _wsl_no_libraries(seen: Evidence) -> str | None:
    if seen.has_node("/dev/dxg") and not_found(seen, NVML) and not unsearched(seen, NVML):
        return f"/dev/dxg is here, the driver's libraries are not: {seen.reason}"
    return None


def _wsl_blocked(seen: Evidence) -> str | None:
    return f"NVML 17: {seen.reason}" if seen.has_node("/dev/dxg") and seen.nvml(17) else None


def _jetson(seen: Evidence) -> str | None:
    tegra = seen.has_node("/dev/nvmap") and not gpu_nodes(seen)
    if tegra and seen.report.failure and not cuda_works(seen):
        return f"/dev/nvmap is here (a Jetson), /dev/nvidia0 is not; NVML: {seen.reason}"
    return None


def _gvisor(seen: Evidence) -> str | None:
    if seen.platform == "gvisor" and seen.driver_failed("nvml"):
        return f"gVisor; {nvml_words(seen)}"
    return None


# --- nothing was given ---------------------------------------------------------------------------


def _none(seen: Evidence) -> str | None:
    if asked_for(seen) != "none" or gpu_nodes(seen) or seen.gpus or seen.lost:
        return None
    return "NVIDIA_VISIBLE_DEVICES=none: the driver without a device"


def _not_injected(seen: Evidence) -> str | None:
    """Return what this machine has and this container was not given.

    /sys and /proc/driver are the host's, so hardware and kernel module show in every container.
    A driver library that the image brought along says NVML 9 where there is no device node.
    """
    hardware = seen.hardware
    nothing = not nodes_of_nvidia(seen) and not seen.has_node("/dev/dxg")
    if not nothing or not (seen.driver_failed("library") or seen.nvml(9)):
        return None
    found = [cards(hardware)] if hardware.pci else []
    if hardware.kernel_driver:
        found.append(f"{'' if found else 'NVIDIA '}driver {hardware.kernel_driver}")
    without = "it" if len(hardware.pci) < 2 else "them"
    start = f"this machine has {' and '.join(found)}, but the container was started without"
    return f"{start} {without}" if found else None


def _void(seen: Evidence) -> str | None:
    if asked_for(seen) not in ("", "void") or not (what := _not_injected(seen)):
        return None
    return f"NVIDIA_VISIBLE_DEVICES={asked_for(seen) or '(empty)'} asks for no GPU; {what}"


def _not_nvidia_runtime(seen: Evidence) -> str | None:
    if asked_for(seen) in (None, "", "all", "none", "void") or not (what := _not_injected(seen)):
        return None
    return f"NVIDIA_VISIBLE_DEVICES={asked_for(seen)} was not followed: {what}"


def _not_requested(seen: Evidence) -> str | None:
    what = _not_injected(seen) if seen.platform == "kubernetes" else None
    return f"the pod requests no nvidia.com/gpu: {what}" if what else None


CHECKS: tuple[Check, ...] = (
    Check(
        "runtime.wsl_no_libraries", _wsl_no_libraries, CPU_ONLY,
        "on Windows: update the NVIDIA driver, then wsl --update; then docker run --gpus all …",
    ),
    Check(
        "runtime.wsl_blocked", _wsl_blocked, f"Windows keeps the GPU back: {CPU_ONLY}",
        "on Windows: update the NVIDIA driver, then wsl --update && wsl --shutdown; a data-center "
        "GPU must run in WDDM mode (nvidia-smi -dm 0), not TCC",
    ),
    Check(
        "runtime.jetson", _jetson, CPU_ONLY,
        "docker run --runtime nvidia …   (on a Jetson, not --gpus), with an image for L4T",
    ),
    Check(
        "runtime.gvisor_driver", _gvisor, f"gVisor does not pass the driver on: {CPU_ONLY}",
        "on the host: runsc nvproxy list-supported-drivers; install one of them, and run runsc "
        "with --nvproxy",
    ),
    Check("runtime.none", _none, CPU_ONLY, give_gpus),
    Check("runtime.not_nvidia_runtime", _not_nvidia_runtime, CPU_ONLY, use_nvidia_runtime),
    Check("runtime.kubernetes_not_requested", _not_requested, CPU_ONLY, give_gpus),
    Check(
        "runtime.void", _void, CPU_ONLY,
        lambda seen: f"without NVIDIA_VISIBLE_DEVICES={asked_for(seen)}: {give_gpus_here(seen)}",
    ),
    Check("runtime.not_injected", _not_injected, CPU_ONLY, give_gpus),
)  # fmt: skip
