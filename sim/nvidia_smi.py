"""A stand-in for nvidia-smi that prints what a machine description says, and nothing else.

It knows `-L`, `-q -x`, the compute capability, and `topo -m` where a printed one is given; all
else it refuses.  What a description leaves out is N/A, as nvidia-smi has it.
Standard library only: the container hook imports this where nothing is installed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

from . import description
from .description import Device

CAPABILITIES = "--query-gpu=compute_cap --format=csv,noheader"

_MODES = {
    "default": "Default",
    "exclusive-thread": "Exclusive_Thread",
    "prohibited": "Prohibited",
    "exclusive-process": "Exclusive_Process",
}
_VIRTUALIZATION = {
    "none": "None",
    "passthrough": "Pass-Through",
    "vgpu": "VGPU",
    "host-vgpu": "Host VGPU",
    "host-vsga": "Host VSGA",
}
_WORDS = {"enabled": "Enabled", "disabled": "Disabled", "yes": "Yes", "no": "No"}
_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}
_MOVES = re.compile(r" to \d+ \S+$", re.MULTILINE)
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def write(path: Path, machine: str, topology: str = "") -> None:
    """Write the program; `topology` is what `topo -m` printed on such a machine."""
    answers = {"-L": listing(machine), "-q -x": xml(machine), CAPABILITIES: _capabilities(machine)}
    if topology:
        answers["topo -m"] = topology
    cases = "".join(
        f"{shlex.quote(arguments)}) printf '%s\\n' {shlex.quote(text)} ;;\n"
        for arguments, text in answers.items()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    refuse = '*) echo "nvidia-smi: not simulated: $*" >&2; exit 2 ;;\n'
    path.write_text(f'#!/bin/sh\ncase "$*" in\n{cases}{refuse}esac\n')
    path.chmod(0o755)


def listing(machine: str) -> str:
    """Return what `-L` prints."""
    lines = []
    for gpu in description.gpus(machine):
        lines.append(f"GPU {gpu.index}: {gpu.get('name')} (UUID: {gpu.get('uuid')})")
        for mig in gpu.migs:
            profile = mig.get("name").rpartition(" ")[2]
            lines.append(f"  MIG {profile:<11} Device {mig.index:>2}: (UUID: {mig.get('uuid')})")
    return "\n".join(lines or ["No devices found."])


def _capabilities(machine: str) -> str:
    gpus = description.gpus(machine)
    return "\n".join(gpu.get("compute_capability", "[N/A]") for gpu in gpus)


# --- -q -x ---------------------------------------------------------------------------------------


def xml(machine: str) -> str:
    """Return what `-q -x` prints: of its elements those that a description has keys for.

    Of a quantity that moves the least.
    """
    machine = _MOVES.sub("", machine)
    about, gpus = description.machine(machine), description.gpus(machine)
    head = {
        "driver_version": about.get("driver_version", "N/A"),
        "cuda_version": about.get("cuda_version", "N/A"),
        "attached_gpus": str(len(gpus)),
    }
    inner = "".join(_element(tag, text) for tag, text in head.items())
    inner += "".join(
        f'<gpu id="{escape(gpu.get("pci_bus_id"))}">\n{_nest(_tree(gpu))}</gpu>\n' for gpu in gpus
    )
    return f'<?xml version="1.0" ?>\n<nvidia_smi_log>\n{inner}</nvidia_smi_log>'


def _tree(gpu: Device) -> dict[str, object]:
    return {
        "product_name": gpu.get("name", "N/A"),
        "persistence_mode": _word(gpu, "persistence_mode"),
        "mig_mode": {"current_mig": _word(gpu, "mig_mode")},
        "mig_devices": _migs(gpu),
        "gpu_virtualization_mode": {
            "virtualization_mode": _VIRTUALIZATION.get(gpu.get("virtualization_mode"), "N/A")
        },
        "vgpu_software_licensed_product": {
            "license_status": gpu.get("grid_license", "N/A").capitalize()
        },
        "uuid": gpu.get("uuid", "N/A"),
        "minor_number": gpu.get("minor_number", "N/A"),
        "pci": {
            "pci_bus_id": gpu.get("pci_bus_id", "N/A"),
            "pci_gpu_link_info": {
                "pcie_gen": {"max_link_gen": gpu.get("pcie_generation_max", "N/A")},
                "link_widths": {
                    "max_link_width": _with_unit(gpu, "pcie_width_max", "x"),
                    "current_link_width": _with_unit(gpu, "pcie_width", "x"),
                },
            },
        },
        "performance_state": _state(gpu),
        "clocks_event_reasons": _reasons(gpu),
        "fb_memory_usage": _memory(gpu),
        "compute_mode": _MODES.get(gpu.get("compute_mode"), "N/A"),
        "utilization": {"gpu_util": gpu.get("utilization_gpu", "N/A")},
        "ecc_errors": {
            "volatile": {"dram_uncorrectable": gpu.get("ecc_volatile_uncorrected", "N/A")}
        },
        "retired_pages": {"pending_retirement": _word(gpu, "retired_pages_pending")},
        "remapped_rows": _rows(gpu),
        "gpu_power_readings": {"instant_power_draw": gpu.get("power_usage", "N/A")},
        "clocks": {"sm_clock": gpu.get("clock_sm", "N/A")},
        "fabric": {"state": _fabric(gpu), "status": _fabric_status(gpu)},
        "processes": _processes(gpu),
    }


def _memory(device: Device) -> dict[str, object]:
    if "memory_total" not in device.values:
        return dict.fromkeys(("total", "reserved", "used", "free"), "N/A")
    total, used, reserved = (
        _mebibytes(device.get(f"memory_{part}", "0 MiB")) for part in ("total", "used", "reserved")
    )
    sizes = {"total": total, "reserved": reserved, "used": used, "free": total - used - reserved}
    return {name: f"{size} MiB" for name, size in sizes.items()}


def _mebibytes(size: str) -> int:
    number, unit = size.split()
    return int(number) * _UNITS[unit] >> 20


def _reasons(gpu: Device) -> dict[str, object]:
    said = gpu.get("clocks_event_reasons")
    return {
        f"clocks_event_reason_{name}": (
            "N/A" if not said else "Active" if int(said, 0) & bit else "Not Active"
        )
        for bit, name in _REASONS.items()
    }


def _rows(gpu: Device) -> dict[str, object]:
    """Return the remapped rows; a card that does not count them has none of it (nvml.h)."""
    known = "remapped_rows_corrected" in gpu.values
    return {
        f"remapped_row_{key}": _WORDS[gpu.get(f"remapped_rows_{key}", "no")] if known else "N/A"
        for key in ("pending", "failure")
    }


def _migs(gpu: Device) -> dict[str, object]:
    return {
        f"mig_device {mig.index}": {
            "index": str(mig.index),
            "gpu_instance_id": mig.get("gpu_instance", "N/A"),
            "compute_instance_id": mig.get("compute_instance", "N/A"),
            "fb_memory_usage": _memory(mig),
        }
        for mig in gpu.migs
    }


def _processes(gpu: Device) -> dict[str, object]:
    said = gpu.get("process")
    if not said:
        return {}
    kind = "G" if "graphics" in said else "C"
    return {"process_info": {"pid": said.split(",")[0].removeprefix("pid "), "type": kind}}


def _word(gpu: Device, key: str) -> str:
    return _WORDS.get(gpu.get(key), "N/A")


def _with_unit(gpu: Device, key: str, unit: str) -> str:
    return f"{gpu.get(key)}{unit}" if key in gpu.values else "N/A"


def _state(gpu: Device) -> str:
    return f"P{gpu.get('performance_state')}" if "performance_state" in gpu.values else "N/A"


def _fabric(gpu: Device) -> str:
    state = gpu.get("fabric_state", "not-supported")
    return "N/A" if state == "not-supported" else state.replace("-", " ").title()


def _fabric_status(gpu: Device) -> str:
    """Return the status of a fabric that is completed: no other has one."""
    if gpu.get("fabric_state") != "completed":
        return "N/A"
    return "Success" if int(gpu.get("fabric_status", "0"), 0) == 0 else "Unknown Error"


def _nest(tree: Mapping[str, object]) -> str:
    """Return a tree as XML; what follows a blank in a name only tells two of a kind apart."""
    return "".join(
        f"<{tag.split()[0]}>\n{_nest(inner)}</{tag.split()[0]}>\n"
        if isinstance(inner, Mapping)
        else _element(tag, str(inner))
        for tag, inner in tree.items()
    )


def _element(tag: str, text: str) -> str:
    return f"<{tag}>{escape(text)}</{tag}>\n"
