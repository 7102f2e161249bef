"""Which cards for RDMA a job uses, where NCCL by itself would take others as well.  Pure.

NCCL takes every active port, and for each GPU the nearest of them (graph/topo.cc), so nothing is
said for each rank.  It does not know which of them reach the other nodes: those of the storage and
of the management it takes alike (NVIDIA/nccl#366, NVIDIA/nccl#1591).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from launcher.cluster.rendezvous import Choice
from launcher.gpus.topology import BEHIND_ONE_SWITCH, lost_nics, nearest_nics
from launcher.model.named_tuple import NamedTuple
from launcher.model.network import Network, RdmaPort

CARDS = "NCCL_IB_HCA"
Ports = Sequence[RdmaPort]
_SLOW = 0.5  # of the fastest card: not of the same network
_PASS_ON = "docker run --device=/dev/infiniband --ulimit memlock=-1 …"


class _Sieve(NamedTuple):
    """What tells a job's cards from others that are active too."""

    keep: Callable[[Ports, Network], list[RdmaPort]]  # [] = it does not tell
    kept: str  # what those are
    other: str  # … and the others


def active(ports: Ports) -> tuple[RdmaPort, ...]:
    """Return the ports that NCCL can use."""
    return tuple(port for port in ports if port.is_active and port.opens)


def choose(network: Network) -> Iterator[Choice]:
    """Name the cards, where NCCL would take some besides that are not for this.

    A card is named as a whole (`=mlx5_0`), or by its port where another of its ports is left out.
    """
    usable = [port for port in active(network.rdma) if port.link_layer in _OF_NCCL]
    left: list[str] = []
    kept_as = ""
    for sieve in _SIEVES:
        kept = sieve.keep(usable, network)
        if kept and len(kept) < len(usable):
            names = dict.fromkeys(port.card for port in usable if port not in kept)
            left.append(f"{', '.join(names)} ({sieve.other})")
            usable, kept_as = kept, kept_as or sieve.kept
    if left:
        others = [port for port in active(network.rdma) if port not in usable]
        split = {port.card for port in others}
        names = dict.fromkeys(port.name if port.card in split else port.card for port in usable)
        why = f"{kept_as}; by itself NCCL takes {', '.join(left)} too"
        yield Choice(CARDS, f"={','.join(names)}", why)


# --- what tells them apart -----------------------------------------------------------------------

_OF_NCCL = ("InfiniBand", "Ethernet")  # EFA's are "Unspecified", and a plugin's


def _on_infiniband(ports: Ports, _: Network) -> list[RdmaPort]:
    return [port for port in ports if port.link_layer == "InfiniBand"]


def _with_an_address(ports: Ports, network: Network) -> list[RdmaPort]:
    """RoCE goes from address to address: without one that others reach, connecting fails.

    Link-local ones end at the next router (NVIDIA/nccl#769), and those of another network namespace
    are refused: "No such device" (NVIDIA/nccl#925).
    """
    here = {"", *(one.name for one in network.interfaces)}
    return [
        port for port in ports
        if port.link_layer == "InfiniBand"
        or any(gid.is_routed and gid.interface in here for gid in port.gids)
    ]  # fmt: skip


def _beside_gpus(ports: Ports, network: Network) -> list[RdmaPort]:
    """Return each GPU's nearest, where each has one behind its own PCIe switch."""
    addresses = {port.pci_bus_id for port in ports}
    nics = [nic for nic in network.nics if nic.pci_bus_id in addresses]
    near = [nearest_nics(gpu, nics) for gpu in _gpus(network)]
    if not near or any(path not in BEHIND_ONE_SWITCH for path, _ in near):
        return []
    found = {nic.pci_bus_id for _, nics in near for nic in nics}
    return [port for port in ports if port.pci_bus_id in found]


def _fast(ports: Ports, _: Network) -> list[RdmaPort]:
    fastest = max(map(_rate, ports), default=0.0)
    return [port for port in ports if _rate(port) >= _SLOW * fastest]


def _whole(ports: Ports, _: Network) -> list[RdmaPort]:
    """A card and its virtual functions share one cable."""
    return [port for port in ports if not port.virtual]


_SIEVES = (
    _Sieve(_on_infiniband, "InfiniBand", "Ethernet"),
    _Sieve(_whole, "whole cards", "a part of one"),
    _Sieve(_with_an_address, "those with an address", "no address that others reach"),
    _Sieve(_beside_gpus, "each GPU's nearest", "no GPU's nearest"),
    _Sieve(_fast, "the fastest", "less than half as fast"),
)


def _gpus(network: Network) -> list[int]:
    return sorted({number for nic in network.nics for number, _ in nic.paths})


def _rate(port: RdmaPort) -> float:
    """Read "400 Gb/sec (4X NDR)"."""
    found = re.match(r"[\d.]+", port.rate)
    return float(found[0]) if found else 0.0


# --- what a variable of NCCL's takes -------------------------------------------------------------


def takes(said: str, name: str) -> bool:
    """Return whether NCCL takes a name: beginnings, `=` for whole names, `^` for all but."""
    rest = said.removeprefix("^")
    names = rest.removeprefix("=").split(",")
    exact = rest.startswith("=")
    found = any(name == one if exact else one and name.startswith(one) for one in names)
    return found != said.startswith("^")


def taken(ports: Ports, said: str) -> tuple[RdmaPort, ...]:
    """Return the ports that NCCL uses where NCCL_IB_HCA says this, "" for nothing."""
    return tuple(port for port in active(ports) if not said or _is_taken(said, port))


def _is_taken(said: str, port: RdmaPort) -> bool:
    """A port may follow a card's name (":1"); without one all of its ports are meant."""
    sign = re.match(r"\^?=?", said)
    signs = sign[0] if sign else ""
    here = [one.partition(":") for one in said.removeprefix(signs).split(",")]
    own = ",".join(card for card, _, number in here if number in ("", str(port.port)))
    return takes(f"{signs}{own}", port.card) if own else "^" in signs


# --- what is said of them ------------------------------------------------------------------------


def notes(network: Network) -> Iterator[str]:
    """Yield what is wrong with the cards that are here."""
    closed = dict.fromkeys(p.card for p in network.rdma if p.is_active and not p.opens)
    yield from explain_closed(tuple(closed))
    down = dict.fromkeys(p.card for p in network.rdma if not p.is_active)
    if down and active(network.rdma):
        yield f"{', '.join(down)}: no port is active; the others are used"
        yield from _far_gpus(network)


def _far_gpus(network: Network) -> Iterator[str]:
    """Name GPUs that are left with a far card, since the one beside them is down."""
    usable = {port.pci_bus_id for port in active(network.rdma)}
    found = []
    for gpu in _gpus(network):
        lost, now, instead = lost_nics(gpu, network.nics, usable)
        if lost:
            names = ", ".join(nic.name for nic in lost)
            far = f"the next, {instead[0].name}, is {now} away" if instead else "no other is near"
            found.append(f"a GPU beside {names} has no active card behind its PCIe switch: {far}")
    yield from dict.fromkeys(found)


def explain_closed(cards: tuple[str, ...]) -> Iterator[str]:
    if cards:
        yield f"{', '.join(cards)} may not be opened here, so RDMA is not used: {_PASS_ON}"
