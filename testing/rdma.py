"""RDMA cards as the kernel shows them below /sys and /dev: what a container of such a host sees.

ABI/stable/sysfs-class-infiniband; a card's folder is where its device is on the PCI bus.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

LOCAL = "fe80:0000:0000:0000:0ac0:ebff:feda:1cfb"
ROUTED = "0000:0000:0000:0000:0000:ffff:0a41:0003"  # 10.65.0.3
NONE = "0000:0000:0000:0000:0000:0000:0000:0000"
V1, V2 = "IB/RoCE v1", "RoCE v2"
# As the kernel fills a table: two places for each address of the interface, the rest empty.
ROCE = ((LOCAL, V1), (LOCAL, V2), (ROUTED, V1), (ROUTED, V2), (NONE, ""))


@dataclass(frozen=True)
class Card:
    """One card with one port."""

    number: int  # mlx5_N, uverbsN
    state: str = "4: ACTIVE"
    physical: str = "5: LinkUp"
    layer: str = "InfiniBand"
    rate: str = "400 Gb/sec (4X NDR)"
    gids: tuple[tuple[str, str], ...] = ()
    interface: str = "ens1f0np0"
    mode: int | None = 0o666  # of its device node; None = it was not passed on
    device: str = ""  # below /sys/devices: "pci0000:17/0000:17:01.0/0000:18:00.0"
    function_of: str = ""  # the card whose virtual function it is

    @property
    def name(self) -> str:
        return f"mlx5_{self.number}"

    @property
    def address(self) -> str:
        return self.folder.rpartition("/")[2]

    @property
    def folder(self) -> str:
        bus = f"{0x18 + self.number:02x}"
        return self.device or f"pci0001:{bus}/0001:{bus}:01.0/0001:{bus}:00.0"


def write_cards(root: Path, cards: Iterable[Card]) -> None:
    for card in cards:
        _write(root, card)


def _write(root: Path, card: Card) -> None:
    device = root / "sys/devices" / card.folder
    port = device / "infiniband" / card.name / "ports/1"
    files = {
        port / "state": card.state, port / "phys_state": card.physical,
        port / "link_layer": card.layer, port / "rate": card.rate, device / "numa_node": "0",
        root / f"sys/class/infiniband_verbs/uverbs{card.number}/ibdev": card.name,
    }  # fmt: skip
    for place, (address, kind) in enumerate(card.gids):
        files[port / f"gids/{place}"] = address
        if kind:  # of an empty place the kernel says EINVAL
            files[port / f"gid_attrs/types/{place}"] = kind
            files[port / f"gid_attrs/ndevs/{place}"] = card.interface
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    if card.function_of:
        (device / "physfn").symlink_to(root / "sys/devices" / card.function_of)
    _link(root / "sys/class/infiniband" / card.name, device / "infiniband" / card.name)
    _link(device / "infiniband" / card.name / "device", device)
    _link(root / "sys/bus/pci/devices" / card.address, device)
    if card.mode is not None:
        node = root / f"dev/infiniband/uverbs{card.number}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.write_text("")
        node.chmod(card.mode)


def write_gpu(root: Path, folder: str) -> None:
    """Put a GPU at a place below /sys/devices."""
    device = root / "sys/devices" / folder
    device.mkdir(parents=True)
    for name, text in {"vendor": "0x10de", "class": "0x030200", "device": "0x2330"}.items():
        (device / name).write_text(f"{text}\n")
    _link(root / "sys/bus/pci/devices" / device.name, device)


def _link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
