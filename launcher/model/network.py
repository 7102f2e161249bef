"""What a node's network is, as values."""

from __future__ import annotations

from typing import NamedTuple


class Interface(NamedTuple):
    """One interface of this network namespace, in the kernel's order."""

    name: str
    running: bool  # up, and its cable too: IFF_UP and IFF_RUNNING
    mtu: int  # bytes
    addresses: tuple[str, ...] = ()  # IPv4 and IPv6, as text
    enslaved: bool = False  # it belongs to a bond


class RdmaPort(NamedTuple):
    """One port of a card that RDMA can use."""

    card: str  # "mlx5_0"
    port: int
    state: str  # "ACTIVE", "DOWN", "INIT" …
    link_layer: str  # "InfiniBand", "Ethernet", "Unspecified" (EFA)
    rate: str = ""  # "400 Gb/sec (4X NDR)"
    pci_bus_id: str = ""
    opens: bool = True  # /dev/infiniband has its device, and lets us in


class Network(NamedTuple):
    """What a node sees of the network, and of the way to the master."""

    hostname: str = ""
    own_addresses: tuple[str, ...] = ()  # that the host name stands for; () = it has none
    interfaces: tuple[Interface, ...] = ()
    master_addresses: tuple[str, ...] = ()  # () = the master's name has none
    source: str | None = None  # the address that the kernel would send to the master from
    unreachable: str = ""  # why the kernel knows no way there
    rdma: tuple[RdmaPort, ...] = ()
    in_files: tuple[tuple[str, str], ...] = ()  # NCCL's variables that its files set, and the file

    def interface_of(self, address: str | None) -> Interface | None:
        """Return the interface that has this address."""
        return next((one for one in self.interfaces if address in one.addresses), None)
