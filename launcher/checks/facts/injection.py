"""What the engine was asked for and did not give, and platforms of another kind.  Pure."""

from __future__ import annotations

from launcher.checks.check import nvml_words
from launcher.checks.facts.device_nodes import cuda_works, gpu_nodes, nodes_of_nvidia
from launcher.checks.facts.how_to_run import cards_in_words, place_of
from launcher.checks.facts.library_files import NVML, not_found, unsearched
from launcher.model.evidence import Evidence


def asked_for(seen: Evidence) -> str | None:
    """Return the value of NVIDIA_VISIBLE_DEVICES; the image itself sets "all"."""
    value = seen.environ.get("NVIDIA_VISIBLE_DEVICES")
    return value if value is None else value.strip()


# --- platforms of another kind -------------------------------------------------------------------


def wsl_without_libraries(seen: Evidence) -> str | None:
    if seen.has_node("/dev/dxg") and not_found(seen, NVML) and not unsearched(seen, NVML):
        return f"/dev/dxg is here, the driver's libraries are not: {seen.reason}"
    return None


def wsl_blocks(seen: Evidence) -> str | None:
    return nvml_words(seen) if seen.has_node("/dev/dxg") and seen.driver_failed("nvml") else None


def is_jetson(seen: Evidence) -> str | None:
    tegra = seen.has_node("/dev/nvmap") and not gpu_nodes(seen)
    if tegra and seen.report.failure and not cuda_works(seen):
        return f"/dev/nvmap is here (a Jetson), /dev/nvidia0 is not; NVML: {seen.reason}"
    return None


def gvisor_refuses(seen: Evidence) -> str | None:
    if seen.platform == "gvisor" and seen.driver_failed("nvml"):
        return f"gVisor; {nvml_words(seen)}"
    return None


# --- nothing was given ---------------------------------------------------------------------------


def none_asked_for(seen: Evidence) -> str | None:
    if asked_for(seen) != "none" or gpu_nodes(seen) or seen.gpus or seen.lost:
        return None
    return "NVIDIA_VISIBLE_DEVICES=none: the driver without a device"


def not_injected(seen: Evidence) -> str | None:
    """Return what this machine has and this container was not given.

    /sys and /proc/driver are the host's, so hardware and kernel module show in every container.
    A driver library that the image brought along says NVML 9 where there is no device node.
    """
    hardware = seen.hardware
    nothing = not nodes_of_nvidia(seen) and not seen.has_node("/dev/dxg")
    if not nothing or not (seen.driver_failed("library") or seen.nvml(9)):
        return None
    found = [cards_in_words(hardware)] if hardware.pci else []
    if hardware.kernel_driver:
        found.append(f"{'' if found else 'NVIDIA '}driver {hardware.kernel_driver}")
    has = f"this machine has {' and '.join(found)}, but"
    if place_of(seen.machine.host) == "plain":
        return f"{has} not the driver's libraries" if found else None
    without = "it" if len(hardware.pci) < 2 else "them"
    return f"{has} the container was started without {without}" if found else None


def void_asked_for(seen: Evidence) -> str | None:
    if asked_for(seen) not in ("", "void") or not (what := not_injected(seen)):
        return None
    return f"NVIDIA_VISIBLE_DEVICES={asked_for(seen) or '(empty)'} asks for no GPU; {what}"


def not_followed(seen: Evidence) -> str | None:
    if asked_for(seen) in (None, "", "all", "none", "void") or not (what := not_injected(seen)):
        return None
    return f"NVIDIA_VISIBLE_DEVICES={asked_for(seen)} was not followed: {what}"


def not_requested(seen: Evidence) -> str | None:
    what = not_injected(seen) if seen.platform == "kubernetes" else None
    return f"the pod requests no nvidia.com/gpu: {what}" if what else None


# --- more was given than was asked for ----------------------------------------------------------


def leak(seen: Evidence) -> str | None:
    """Return whether there are more GPUs than the list of devices asks for.

    Names of other kinds say nothing of a number: CDI names, and the folder that the Kubernetes
    device plugin mounts instead of a list.
    """
    listed = {name for name in (asked_for(seen) or "").split(",") if name}
    plain = all(name.isdecimal() or name.startswith(("GPU-", "MIG-")) for name in listed)
    count = len(seen.gpus) + len(seen.lost)
    if listed and plain and count > len(listed):
        return f"{count} GPUs are here, NVIDIA_VISIBLE_DEVICES lists {len(listed)}"
    return None
