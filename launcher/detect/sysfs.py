"""Where GPUs and network cards sit: NUMA nodes, local CPUs, PCIe paths.  Reads sysfs only.

sysfs tells the hardware's truth; NVML's CPU affinity is filtered by the container's cpuset, so
it is the second choice, and marked.  kernel.org, ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from launcher.detect.cgroup import read_text
from launcher.model.machine import Gpu, GpuReport, Nic
from launcher.model.pci_address import in_sysfs

_ROOT_COMPLEX = r"pci[0-9a-f]{4,}:[0-9a-f]{2}"


def locate_gpus(report: GpuReport, root: Path = Path("/")) -> GpuReport:
    """Return the report with each GPU's NUMA node and CPUs as sysfs has them."""
    return report._replace(gpus=tuple(_locate(gpu, root) for gpu in report.gpus))


def _locate(gpu: Gpu, root: Path) -> Gpu:
    if not gpu.pci_bus_id:
        return gpu
    device = _device(root, gpu.pci_bus_id)
    node = read_text(device / "numa_node")
    cpus = read_text(device / "local_cpulist")
    return gpu._replace(  # -1 is the kernel's "not known": a virtual machine, or a single node.
        numa_node=int(node) if node and node.isdecimal() else gpu.numa_node,
        cpus=cpus or gpu.cpus,
        cpus_filtered=gpu.cpus_filtered and not cpus,
    )


def read_nics(report: GpuReport, root: Path = Path("/")) -> tuple[Nic, ...]:
    """Return the network cards that RDMA can use, with their PCIe paths."""
    places = [(gpu.index, gpu.pci_bus_id) for gpu in report.gpus if gpu.pci_bus_id]
    return nics_beside(places, root)


def nics_beside(gpus: Sequence[tuple[int, str]], root: Path = Path("/")) -> tuple[Nic, ...]:
    """Return the same for GPUs whose PCI addresses are known.

    Args:
        gpus: a number for each, and its address.
    """
    cards = {name: address for address, name in _rdma_cards(root).items() if address}
    return tuple(
        Nic(
            name=name,
            pci_bus_id=address,
            paths=_paths(gpus, address, root),
            beside=tuple(
                (other, path)
                for other, there in cards.items()
                if other != name
                and (path := pcie_path(_device(root, address), _device(root, there)))
            ),
        )
        for name, address in cards.items()
    )


def _rdma_cards(root: Path) -> dict[str, str]:
    """Return the names by PCI address.

    A container without the RDMA namespace has an empty /sys/class/infiniband; its network
    interfaces still show what is behind them.
    """
    cards: dict[str, str] = {}
    for card in sorted(root.glob("sys/class/infiniband/*")):
        cards.setdefault(_address_behind(card), card.name)
    for card in sorted(root.glob("sys/class/net/*/device/infiniband/*")):
        cards.setdefault(_address_behind(card.parents[2]), card.name)
    return cards


def _address_behind(card: Path) -> str:
    """Return the PCI address of a class device: the last part of where `device` points."""
    return os.path.basename(os.path.realpath(card / "device")) if (card / "device").exists() else ""


def _paths(
    gpus: Sequence[tuple[int, str]], address: str, root: Path
) -> tuple[tuple[int, str], ...]:
    nic = _device(root, address)
    return tuple(
        (number, path) for number, place in gpus if (path := pcie_path(nic, _device(root, place)))
    )


def pcie_path(one: Path, other: Path) -> str | None:
    """Return the class of the PCIe path between two devices, as `nvidia-smi topo` names it.

    A device's real path lists the bridges above it, from its root complex down:
    …/pci0000:17/0000:17:01.0/0000:18:00.0.  None where the tree is not there.
    """
    a, b = _chain(one), _chain(other)
    if not a or not b:
        return None
    if a[0] != b[0]:
        nodes = {read_text(device / "numa_node") for device in (one, other)}
        return "NODE" if len(nodes) == 1 else "SYS"
    shared = next(
        (n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
    if shared == 1:
        return "PHB"
    # Below what they share, each has its own ports: one switch has one for each of the two.
    own_ports = (len(a) - shared - 1) + (len(b) - shared - 1)
    return "PIX" if own_ports <= 2 else "PXB"


def _chain(device: Path) -> list[str]:
    parts = os.path.realpath(device).split("/")
    start = next((n for n, part in enumerate(parts) if re.fullmatch(_ROOT_COMPLEX, part)), None)
    return parts[start:] if start is not None and device.exists() else []


def _device(root: Path, bus_id: str) -> Path:
    """Return the sysfs folder of a PCI address."""
    return root / "sys/bus/pci/devices" / in_sysfs(bus_id)


def near_cpus(bus_id: str, root: Path = Path("/")) -> str:
    """Return the CPUs beside a PCI device as the kernel lists them, "" where it does not say."""
    return read_text(_device(root, bus_id) / "local_cpulist") or "" if bus_id else ""


def numa_cpus(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the CPUs of each NUMA node that has some (ABI/stable/sysfs-devices-node)."""
    nodes = (root / "sys/devices/system/node").glob("node[0-9]*")
    ordered = sorted(nodes, key=lambda node: int(node.name.removeprefix("node") or 0))
    return tuple(filter(None, (read_text(node / "cpulist") for node in ordered)))
