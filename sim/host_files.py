"""Files that a machine with an NVIDIA driver has: /proc/driver/nvidia, PCI devices.

Standard library only: the container hook imports this where nothing is installed.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import description

NVIDIA = "0x10de"
CLASS_3D, CLASS_NVSWITCH = "0x030200", "0x068000"
NVSWITCH_DEVICE = "0x22a3"  # the third generation, of H100 boards


def write_proc(dest: Path, machine: str) -> None:
    """Write what /proc/driver holds: the kernel module's version, and the GPUs it drives."""
    about = description.machine(machine)
    version = about.get("kernel_module_version") or about.get("driver_version", "0")
    _write(
        dest / "nvidia/version",
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {version}  Thu Oct 10 12:29:05 UTC 2024\n"
        "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n",
    )
    for gpu in description.gpus(machine):
        if bus_id := gpu.get("pci_bus_id"):
            _write(
                dest / "nvidia/gpus" / _short(bus_id) / "information",
                f"Model: \t\t {gpu.get('name')}\n"
                f"GPU UUID: \t {gpu.get('uuid')}\n"
                "Bus Type: \t PCIe\n"
                f"Bus Location: \t {_short(bus_id)}\n"
                f"Device Minor: \t {gpu.get('minor_number')}\n",
            )


def write_pci(dest: Path, machine: str) -> None:
    """Write what /sys/bus/pci/devices holds of the GPUs and the NVSwitches they reach.

    A folder per device, where the kernel has links: what is read through them is the same.
    """
    dest.mkdir(parents=True, exist_ok=True)
    for gpu in description.gpus(machine):
        if bus_id := gpu.get("pci_bus_id"):
            device_id = int(gpu.get("pci_device_id", "0"), 0)
            _write_pci_device(
                dest / _short(bus_id),
                device=f"{device_id >> 16:#06x}",
                kind=CLASS_3D,
                numa_node=gpu.get("numa_node", "-1"),
                cpus=gpu.get("cpu_affinity"),
            )
            # Bound to NVIDIA's kernel driver; a link, and where it leads is not needed.
            link = dest / _short(bus_id) / "driver"
            link.unlink(missing_ok=True)
            link.symlink_to("../../../bus/pci/drivers/nvidia")
    for bus_id in sorted(set(re.findall(r"switch ([0-9A-Fa-f:.]+)", machine))):
        _write_pci_device(
            dest / _short(bus_id),
            device=NVSWITCH_DEVICE,
            kind=CLASS_NVSWITCH,
            numa_node="-1",
            cpus="",
        )


def _write_pci_device(folder: Path, *, device: str, kind: str, numa_node: str, cpus: str) -> None:
    for name, value in {
        "vendor": NVIDIA,
        "device": device,
        "class": kind,
        "numa_node": numa_node,
        "local_cpulist": cpus,
    }.items():
        _write(folder / name, f"{value}\n")


def _short(bus_id: str) -> str:
    """`00000000:18:00.0`, as NVML writes it, is `0000:18:00.0` to the kernel."""
    return bus_id[4:].lower()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
