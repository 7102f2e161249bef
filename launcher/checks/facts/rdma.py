"""What is wrong with RDMA cards, for the layer "resources": jobs of several nodes need them.  Pure.

One machine alone needs none of it.  So it is judged where cards were passed on, where a job of
several nodes is known, or where a fabric is up that exists for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.checks.facts.how_to_run import tell
from launcher.gpus.topology import lost_nics
from launcher.model.evidence import Evidence
from launcher.model.host import READ_WRITE, Account, granted
from launcher.model.machine import DeviceNode
from launcher.model.network import Gid, Rdma, RdmaPort

# NCCL registers 4 MiB for each of its channels and peers: hundreds of MiB among a few nodes.
_MUCH_LOCKED = 1 << 30
_DMA_BUF_SINCE = (5, 12)  # Linux, of memory regions (drivers/infiniband/core/umem_dmabuf.c)
_MOST = 4  # ports that are named


def _looked_at(seen: Evidence) -> Rdma | None:
    """Return the cards where NCCL has something to do with them."""
    environ = seen.environ
    refused = environ.get("NCCL_IB_DISABLE") == "1" or environ.get("NCCL_NET") == "Socket"
    return seen.rdma if seen.gpus and not refused else None


def _passed_on(rdma: Rdma) -> list[DeviceNode]:
    return [node for node in rdma.nodes if node.fault != "ENOENT"]


def _user(seen: Evidence) -> Account:
    return seen.user or seen.machine.host.account or seen.machine.host.me


# --- cards that the box may not use --------------------------------------------------------------


def not_passed(seen: Evidence) -> str | None:
    """Only where all are missing: some of them may be others'."""
    rdma = _looked_at(seen)
    if rdma is None or _passed_on(rdma):
        return None
    usable = [port for port in rdma.ports if port.is_active]
    fabric = [port for port in usable if port.link_layer != "Ethernet"]
    here = usable if seen.nodes > 1 else fabric
    lacks = "/dev/infiniband is not here" if rdma.nodes else "the kernel has no device node for it"
    return f"{_names(here)}: on the host, and {lacks}" if here else None


def pass_on(seen: Evidence) -> str:
    made = bool(seen.rdma and seen.rdma.nodes)
    return tell(seen.machine.host, "rdma") if made else "on the host: sudo modprobe ib_uverbs"


def forbidden(seen: Evidence) -> str | None:
    rdma = _looked_at(seen)
    if rdma is None:
        return None
    user = _user(seen)
    closed = [
        f"{node.path}: {node.fault}" if node.fault else
        f"{node.path} (mode {node.mode:04o}, {node.uid}:{node.gid}) for user {user.name}"
        for node in _passed_on(rdma)
        if node.fault or _keeps_out(node, user)
    ]  # fmt: skip
    if len(closed) < len(_passed_on(rdma)):  # with all of /dev here, the others are others'
        return None
    return f"cannot be opened: {_some(closed)}" if closed else None


def _keeps_out(node: DeviceNode, user: Account) -> bool:
    allowed = granted(node.mode, node.uid, node.gid, user)
    return user.uid != 0 and allowed & READ_WRITE != READ_WRITE


def let_in(seen: Evidence) -> str:
    """EPERM is the device cgroup's; else it is the mode of the file (open(2))."""
    nodes = _passed_on(seen.rdma) if seen.rdma else []
    if any(node.fault == "EPERM" for node in nodes):
        return tell(seen.machine.host, "rdma")
    first = next(iter(nodes))
    if first.gid and first.mode >> 3 & READ_WRITE == READ_WRITE:
        return tell(seen.machine.host, "group", first.gid)
    return "on the host: sudo chmod 666 /dev/infiniband/uverbs*, as rdma-core's udev rules have it"


def _ours(seen: Evidence) -> list[RdmaPort]:
    """Return the ports of the cards that were passed on, whole cards where there are such."""
    rdma = _looked_at(seen)
    ports = [port for port in rdma.ports if port.opens] if rdma else []
    return [port for port in ports if not port.virtual] or ports


# --- ports that do nothing -----------------------------------------------------------------------


def _down(seen: Evidence) -> list[RdmaPort]:
    """Return the ports that should be active: all where none is, else those that are missed.

    Of a card with two ports often one has a cable, and an Ethernet port may be nobody's.
    """
    ports = _ours(seen)
    if not ports and seen.nodes > 1 and seen.gpus and seen.rdma and not _passed_on(seen.rdma):
        ports = list(seen.rdma.ports)
        return [] if any(port.is_active for port in ports) else ports
    up = [port for port in ports if port.is_active]
    down = [port for port in ports if not port.is_active]
    if not up:
        return down
    boards = {_board(port) for port in up}
    missed = _missed(seen, up)
    return [
        port for port in down
        if port.pci_bus_id in missed
        or (port.link_layer == "InfiniBand" and _board(port) not in boards)
    ]  # fmt: skip


def _board(port: RdmaPort) -> str:
    """Return the card's address without its function: the two ports of one card are two of these.

    The name, where there is no address.
    """
    return port.pci_bus_id.rpartition(".")[0] or port.card


def _missed(seen: Evidence, up: Iterable[RdmaPort]) -> set[str]:
    """Return the addresses of cards behind a GPU's own switch, where no active one is there."""
    nics = seen.rdma.nics if seen.rdma else ()
    addresses = {port.pci_bus_id for port in up}
    lost = (lost_nics(gpu.index, nics, addresses)[0] for gpu in seen.gpus)
    return {nic.pci_bus_id for each in lost for nic in each}


def port_down(seen: Evidence) -> str | None:
    said = [
        f"{port.name} is {port.state or 'in no known state'}"
        + (f" ({port.physical})" if port.physical else "")
        for port in _down(seen)
    ]
    return _some(said) if said else None


def bring_up(seen: Evidence) -> str:
    """Say where to look for the first of them, by what its cable says."""
    port = next(iter(_down(seen)))
    if port.link_layer == "InfiniBand" and port.physical == "LinkUp":
        return "on the host: sudo sminfo; where no subnet manager answers, start one (opensm)"
    if port.link_layer == "Ethernet":
        show = f"rdma link show {port.card}/{port.port}"
        return f"on the host: {show}; sudo ip link set INTERFACE up; then cable and switch port"
    return f"on the host: ibstat {port.card}; cable, transceiver, and the port of the switch"


# --- addresses of RoCE ---------------------------------------------------------------------------


def no_address(seen: Evidence) -> str | None:
    """Where somebody chose one by hand, that is used; where others are well, NCCL is told those."""
    ports = _roce(seen)
    if not ports or "NCCL_IB_GID_INDEX" in seen.environ:
        return None
    said = [f"{port.name} {why}" for port in ports if (why := _reach(seen, port))]
    return _some(said) if len(said) == len(ports) else None


def _roce(seen: Evidence) -> list[RdmaPort]:
    """Return the ports that others are reached through by addresses; none beside InfiniBand."""
    up = [port for port in _ours(seen) if port.is_active]
    if any(port.link_layer == "InfiniBand" for port in up):
        return []
    return [port for port in up if port.link_layer == "Ethernet"]


def _reach(seen: Evidence, port: RdmaPort) -> str:
    """Return why others are not reached from a port, "" where they are, or nothing is known."""
    if any(not gid.kind for gid in port.gids):  # a kernel that does not say it
        return ""
    routed = [gid for gid in port.gids if gid.is_routed]
    if not routed:
        first = next((gid.address for gid in port.gids), "")
        return f"has {first}, which ends at the next router" if first else "has no address"
    away = _elsewhere(seen, port)
    if len(away) < len(routed):
        return ""
    return f"has {away[0].address} of {away[0].interface}, which is in another network namespace"


def _elsewhere(seen: Evidence, port: RdmaPort) -> list[Gid]:
    here = {"", *(seen.rdma.interfaces if seen.rdma else ())}
    return [gid for gid in port.gids if gid.is_routed and gid.interface not in here]


def give_address(seen: Evidence) -> str:
    if any(_elsewhere(seen, port) for port in _roce(seen)):
        return tell(seen.machine.host, "network")
    return (
        "on the host: sudo ip address add ADDRESS/BITS dev INTERFACE, of each card's "
        "(rdma link show); show_gids then lists it as v2"
    )


# --- GPUDirect -----------------------------------------------------------------------------------


def no_peer_memory(seen: Evidence) -> str | None:
    """CUDA says what its GPUs can: those of GeForce cannot at all, and nothing mends that."""
    rdma = _looked_at(seen)
    cards = [port for port in _ours(seen) if port.is_active and port.link_layer != "Unspecified"]
    able = [one for one in seen.cuda.devices if one.gpudirect] if seen.cuda else []
    if rdma is None or not cards or not able or rdma.peer_memory:
        return None
    if all(one.dma_buf for one in able):
        if rdma.kernel >= _DMA_BUF_SINCE or rdma.kernel == (0, 0):
            return None
        lacks = f"Linux {rdma.kernel[0]}.{rdma.kernel[1]} has no dma-buf for RDMA"
    else:
        lacks = "the driver offers no dma-buf"
    return f"the module nvidia_peermem is not loaded, and {lacks}"


# --- memory that may be locked -------------------------------------------------------------------


def little_locked(seen: Evidence) -> str | None:
    """Between the GPUs of one box nothing needs the limit."""
    limit = seen.limits.memlock
    passed = any(node.startswith("/dev/infiniband/uverbs") for node in seen.hardware.device_nodes)
    if not passed or not seen.gpus or limit is None or limit >= _MUCH_LOCKED or _may_lock(seen):
        return None
    user, host = _user(seen), seen.machine.host
    only_root = "" if user.uid == 0 or "IPC_LOCK" not in (host.capabilities or ()) else (
        f"; the capability IPC_LOCK is root's alone, and programs run as {user.name}"
    )  # fmt: skip
    kib = limit >> 10
    return f"{kib} KiB of memory may be locked (ulimit -l), and RDMA cards are here{only_root}"


def _may_lock(seen: Evidence) -> bool:
    """Return whether a capability frees the user's programs from the limit (umem.c, ib_umem_get).

    It counts in the machine's own user namespace alone.
    """
    host = seen.machine.host
    return _user(seen).uid == 0 and "IPC_LOCK" in (host.capabilities or ()) and not host.rootless


# --- words ---------------------------------------------------------------------------------------


def _names(ports: Iterable[RdmaPort]) -> str:
    return _some(list(dict.fromkeys(port.card for port in ports)))


def _some(words: list[str]) -> str:
    more = f" and {len(words) - _MOST} more" if len(words) > _MOST else ""
    return ", ".join(words[:_MOST]) + more
