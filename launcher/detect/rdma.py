"""Cards for RDMA: their ports, their ways to the GPUs, and whether they may be used here.

Reads only.  Of a container /sys shows the host's cards, whatever it was given of /dev/infiniband.
kernel.org, ABI/stable/sysfs-class-infiniband.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.detect import sysfs
from launcher.detect.cgroup import read_text
from launcher.detect.detect import display_controllers, open_node
from launcher.model.machine import DeviceNode, GpuReport, Nic
from launcher.model.network import Gid, Rdma, RdmaPort

if TYPE_CHECKING:
    import ipaddress

_ROOT = Path("/")
_MOST_GIDS = 256  # of a port
# NCCL looks for the first three (transport/net_ib.cc, ibGdrSupportInitOnce).
_PEER_MEMORY = (
    "sys/module/nvidia_peermem", "sys/kernel/mm/memory_peers/nv_mem",
    "sys/kernel/mm/memory_peers/nv_mem_nc", "sys/module/nv_peer_mem",
)  # fmt: skip


def read_rdma(report: GpuReport, root: Path = _ROOT) -> Rdma | None:
    """Return what there is of it; None where there is no card."""
    ports = read_ports(root)
    if not ports:
        return None
    return Rdma(
        ports=ports,
        nodes=tuple(_open(root, name) for name in _verbs(root).values()),
        nics=sysfs.read_nics(report, root),
        interfaces=tuple(sorted(path.name for path in (root / "sys/class/net").glob("*"))),
        peer_memory=any((root / path).exists() for path in _PEER_MEMORY),
        kernel=_kernel(root),
    )


def read_ports(root: Path = _ROOT) -> tuple[RdmaPort, ...]:
    """Return every port, in the order of the cards' numbers."""
    return tuple(_ports(root))


def read_nics(root: Path = _ROOT) -> tuple[Nic, ...]:
    """Return the cards with their ways to all GPUs of the machine, given to us or not.

    The GPUs are numbered in the order of their addresses.
    """
    addresses = [card.address for card in display_controllers(root)]
    return sysfs.nics_beside(list(enumerate(addresses)), root)


def _ports(root: Path) -> Iterator[RdmaPort]:
    nodes = _verbs(root)
    for card in sorted((root / "sys/class/infiniband").glob("*"), key=_natural):
        device = card / "device"
        node = nodes.get(card.name)
        fault = _open(root, node).fault if node else "ENOENT"
        for port in sorted((card / "ports").glob("[0-9]*"), key=_natural):
            state, link_layer = _word(port / "state"), read_text(port / "link_layer") or ""
            looked_at = state == "ACTIVE" and link_layer == "Ethernet"
            yield RdmaPort(
                card=card.name,
                port=int(port.name) if port.name.isdecimal() else 0,
                state=state,
                link_layer=link_layer,
                rate=read_text(port / "rate") or "",
                pci_bus_id=os.path.basename(os.path.realpath(device)) if device.exists() else "",
                fault=fault,
                physical=_word(port / "phys_state"),
                virtual=(device / "physfn").exists(),
                gids=tuple(_gids(port)) if looked_at else (),
            )


def _word(path: Path) -> str:
    """Read "4: ACTIVE"."""
    return (read_text(path) or "").rpartition(": ")[2]


def _verbs(root: Path) -> dict[str, str]:
    """Return the name of the device node of each card."""
    nodes = sorted((root / "sys/class/infiniband_verbs").glob("uverbs*"), key=_natural)
    return {card: node.name for node in nodes if (card := read_text(node / "ibdev"))}


def _open(root: Path, name: str) -> DeviceNode:
    return open_node(root, root / "dev/infiniband" / name)


def _gids(port: Path) -> Iterator[Gid]:
    """Yield the addresses of a port; an empty place in the table reads as zero."""
    import ipaddress  # where there is a card

    for path in sorted((port / "gids").glob("[0-9]*"), key=_natural)[:_MOST_GIDS]:
        try:
            address = ipaddress.IPv6Address(read_text(path) or "::")
        except ValueError:
            continue
        if int(address):
            known = port / "gid_attrs"
            kind = read_text(known / "types" / path.name) or ""
            interface = read_text(known / "ndevs" / path.name) or ""
            yield Gid(_written(address), kind, interface)


def _written(address: ipaddress.IPv6Address) -> str:
    """Return it as tools for RDMA write it: "::ffff:10.0.0.1"."""
    return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else str(address)


def _kernel(root: Path) -> tuple[int, int]:
    found = re.search(r"version (\d+)\.(\d+)", read_text(root / "proc/version") or "")
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _natural(path: Path) -> tuple[str, int]:
    digits = re.search(r"\d+$", path.name)
    return path.name.rstrip("0123456789"), int(digits[0]) if digits else -1
