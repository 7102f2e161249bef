"""Which interface the nodes talk over, where the libraries' own choice would go wrong.  Pure.

NCCL takes interfaces that begin with `ib`, else all but docker*, lo*, virbr* (misc/socket.cc); gloo
takes the one that the host name resolves to, else loopback (ProcessGroupGloo.cpp).  What they would
find by themselves is not set, and what the user or a file of NCCL's set is kept.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterator, Mapping

from launcher.cluster import cards
from launcher.cluster.cards import CARDS
from launcher.cluster.rendezvous import Choice, Reach
from launcher.model.named_tuple import NamedTuple
from launcher.model.network import Interface, Network

NCCL, GLOO = "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"
_NEVER_NCCL_S = ("docker*", "lo*", "virbr*")
# Bridges, tunnels and ends of cables that lead to containers: by name, since a container's own eth0
# is a veth too.
_NO_WAY_OUT = (
    *_NEVER_NCCL_S, "br-*", "veth*", "cni*", "cali*", "lxc*", "cilium*", "flannel*", "tunl*",
    "kube-ipvs*", "nodelocaldns*", "weave", "vxlan*", "tailscale*", "wg*", "tun*", "tap*",
    "ip6tnl*", "sit*", "gre*", "dummy*", "ifb*",
)  # fmt: skip


class Way(NamedTuple):
    """What is set for the run, and what is said of the network."""

    set: tuple[Choice, ...] = ()
    kept: tuple[Choice, ...] = ()  # the user's, and why it stays
    notes: tuple[str, ...] = ()


def reach(network: Network, master: str | None) -> Reach:
    """Return how this node reaches the master."""
    own = {address for one in network.interfaces for address in one.addresses}
    known = any(one in own or _is_loopback(one) for one in network.own_addresses)
    if master is None or not network.master_addresses:
        return Reach(own_name_is_known=known)
    here = any(one in own or _is_loopback(one) for one in network.master_addresses)
    return Reach(towards_the_others(network), here, known)


def choose_way(network: Network, environ: Mapping[str, str], nodes: int) -> Way:
    """Return what to set for a job of several nodes; nothing for one machine."""
    if nodes < 2:
        return Way()
    wanted = network.interface_of(towards_the_others(network))
    kept = tuple(_kept(network, environ))
    settled = {one.name for one in kept}
    chosen = [*_for_gloo(network, wanted), *_for_nccl(network, wanted), *cards.choose(network)]
    return Way(
        tuple(one for one in chosen if one.name not in settled),
        kept,
        tuple(_notes(network, wanted)),
    )


def towards_the_others(network: Network) -> str | None:
    """Return this node's address that the others reach.

    On the master its own name may stand for loopback (Debian's 127.0.1.1): then the address that
    the host name, or the default way, has.
    """
    if network.source and not _is_loopback(network.source):
        return network.source
    outside = [
        address
        for one in network.interfaces
        if one.running and not _is_any(one.name, _NO_WAY_OUT)
        for address in one.addresses
        if not _is_local(address)
    ]
    return next((a for a in network.own_addresses if a in outside), next(iter(outside), None))


class Door(NamedTuple):
    """Where a library will listen, as the user chose its interface."""

    address: str  # "" = none that is up has that name
    by: str  # "GLOO_SOCKET_IFNAME=eth1"


def chosen_door(network: Network, environ: Mapping[str, str], gpus: bool) -> Door | None:
    """Return where a library will listen if not on the way to the master; None = there.

    Args:
        gpus: the job's library is NCCL, else gloo.
    """
    name = NCCL if gpus else GLOO
    said = environ.get(name, "")
    wanted = network.interface_of(towards_the_others(network))
    found = _taken(network, said, gpus)
    if not said or wanted in found:
        return None
    addresses = (address for one in found for address in one.addresses if not _is_local(address))
    return Door(next(addresses, ""), f"{name}={said[:60]}")


def talked_over(network: Network, environ: Mapping[str, str], gpus: bool) -> tuple[str, ...]:
    """Return the interfaces that a job will use, and its ports for RDMA ("mlx5_0:1")."""
    said = environ.get(NCCL if gpus else GLOO, "")
    wanted = network.interface_of(towards_the_others(network))
    found = _taken(network, said, gpus) if said else [wanted] if wanted else []
    ports = cards.taken(network.rdma, environ.get(CARDS, "")) if gpus else ()
    return (*(one.name for one in found), *(one.name for one in ports))


def _taken(network: Network, said: str, gpus: bool) -> list[Interface]:
    """Return the interfaces that are up and named by a variable of NCCL's, or of gloo's."""
    up = [one for one in network.interfaces if one.running]
    names = said.split(",")
    return [one for one in up if (cards.takes(said, one.name) if gpus else one.name in names)]


def _kept(network: Network, environ: Mapping[str, str]) -> Iterator[Choice]:
    files = dict(network.in_files)
    for name in (NCCL, GLOO, CARDS):
        if environ.get(name):
            yield Choice(name, environ[name], "the environment has it")
        elif name in files:
            yield Choice(name, "", f"{files[name]} sets it")


# --- gloo ------------------------------------------------------------------------------------


def _for_gloo(network: Network, wanted: Interface | None) -> Iterator[Choice]:
    """It binds to the host name's first address; exact names, no list of what not."""
    if wanted is None:
        return
    name = network.hostname
    if not network.own_addresses:
        why = f"the host name {name} has no address, and gloo would take loopback"
    elif _is_loopback(network.own_addresses[0]):
        why = f"the host name {name} is {network.own_addresses[0]}, which no other node reaches"
    elif network.own_addresses[0] not in wanted.addresses:
        why = f"the way to the master; the host name {name} is {network.own_addresses[0]}"
    else:
        return
    yield Choice(GLOO, wanted.name, why)


# --- NCCL ------------------------------------------------------------------------------------


def _for_nccl(network: Network, wanted: Interface | None) -> Iterator[Choice]:
    """Name the way to the master and those like it, where NCCL would take others as well."""
    default = [one for one in network.interfaces if _is_default(one)]
    if wanted is None or any(one.name.startswith("ib") for one in default):
        return
    alike = [one for one in default if _is_alike(one, wanted)] or [wanted]
    others = [one.name for one in default if one not in alike]
    if not others and wanted in default:
        return
    names = ",".join(one.name for one in alike)
    said = ", ".join(others) or "another one"
    yield Choice(NCCL, f"={names}", f"the way to the master; by itself NCCL takes {said} too")


def _is_default(one: Interface) -> bool:
    return one.running and bool(one.addresses) and not _is_any(one.name, _NEVER_NCCL_S)


def _is_alike(one: Interface, wanted: Interface) -> bool:
    """Return whether two are rails of one fabric: ens1 … ens8, of the same MTU."""
    stem = wanted.name.rstrip("0123456789")
    same = one.name.rstrip("0123456789") == stem and one.mtu == wanted.mtu
    return one == wanted or (same and stem != "eth" and not _is_any(one.name, _NO_WAY_OUT))


# --- what is said of it --------------------------------------------------------------------------


def _notes(network: Network, wanted: Interface | None) -> Iterator[str]:
    if network.unreachable:
        yield f"the kernel knows no way to the master: {network.unreachable}"
    if wanted and not wanted.running:
        yield f"{wanted.name} leads to the master and is down"
    yield from cards.notes(network)


def _is_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _is_local(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    return found.is_loopback or found.is_link_local
