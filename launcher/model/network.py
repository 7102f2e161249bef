"""What a node's network is, as values."""

from __future__ import annotations

from launcher.model.machine import DeviceNode, Nic
from launcher.model.named_tuple import NamedTuple


class Interface(NamedTuple):
    """One interface of this network namespace, in the kernel's order."""

    name: str
    running: bool  # up, and its cable too: IFF_UP and IFF_RUNNING
    mtu: int  # bytes
    addresses: tuple[str, ...] = ()  # IPv4 and IPv6, as text
    enslaved: bool = False  # it belongs to a bond


# fe80::/10 and 169.254.0.0/16 (RFC 4291, RFC 3927)
_LINK_LOCAL = ("fe8", "fe9", "fea", "feb", "::ffff:169.254.")


class Gid(NamedTuple):
    """An address of a port for RDMA; RoCE makes them of its interface's addresses."""

    address: str  # "::ffff:10.0.0.1", "fe80::1"
    kind: str = ""  # "RoCE v2", "IB/RoCE v1"; "" = the kernel does not say it here
    interface: str = ""  # that it is of; "" = not said

    @property
    def is_routed(self) -> bool:
        """Return whether RoCE gets to other networks by it: those of RoCE v1 stay in their own."""
        return self.kind == "RoCE v2" and not self.address.startswith(_LINK_LOCAL)


class RdmaPort(NamedTuple):
    """One port of a card that RDMA can use."""

    card: str  # "mlx5_0"
    port: int
    state: str  # "ACTIVE", "DOWN", "INIT" …
    link_layer: str  # "InfiniBand", "Ethernet", "Unspecified" (EFA)
    rate: str = ""  # "400 Gb/sec (4X NDR)"
    pci_bus_id: str = ""
    fault: str = ""  # "" = its device opens; else the errno: ENOENT (it is not here), EPERM …
    physical: str = ""  # "LinkUp", "Polling", "Disabled" …
    virtual: bool = False  # a virtual function of a card that is here too
    gids: tuple[Gid, ...] = ()  # of an Ethernet port that is active

    @property
    def name(self) -> str:
        """Return "mlx5_0:1", as NCCL writes it."""
        return f"{self.card}:{self.port}"

    @property
    def is_active(self) -> bool:
        return self.state == "ACTIVE"

    @property
    def opens(self) -> bool:
        return not self.fault


class Rdma(NamedTuple):
    """What a box sees of RDMA."""

    ports: tuple[RdmaPort, ...] = ()
    nodes: tuple[DeviceNode, ...] = ()  # of the cards, as opening found them; those not here too
    nics: tuple[Nic, ...] = ()  # with their ways to the GPUs, by NVML's index
    interfaces: tuple[str, ...] = ()  # of this network namespace
    peer_memory: bool = False  # a kernel module lets cards reach GPUs' memory
    kernel: tuple[int, int] = (0, 0)  # Linux' version; (0, 0) = not known


class Network(NamedTuple):
    """What a node sees of the network, and of the way to the master."""

    hostname: str = ""
    own_addresses: tuple[str, ...] = ()  # that the host name stands for; () = it has none
    interfaces: tuple[Interface, ...] = ()
    master_addresses: tuple[str, ...] = ()  # () = the master's name has none
    source: str | None = None  # the address that the kernel would send to the master from
    unreachable: str = ""  # why the kernel knows no way there
    rdma: tuple[RdmaPort, ...] = ()
    nics: tuple[Nic, ...] = ()  # the same cards, and their ways to every GPU of the machine
    in_files: tuple[tuple[str, str], ...] = ()  # NCCL's variables that its files set, and the file

    def interface_of(self, address: str | None) -> Interface | None:
        """Return the interface that has this address."""
        return next((one for one in self.interfaces if address in one.addresses), None)
