"""How this box is called on its network, and how it leaves it.  Reads only, and asks no server."""

from __future__ import annotations

from pathlib import Path

from launcher.detect.cgroup import attempt, read_text

_IS_UP = 0x1  # RTF_UP of route(7)
_ANYWHERE = "00000000"
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8  # netdevice(7)


def loopback_of(name: str, root: Path = Path("/")) -> str:
    """Return the loopback address that hosts(5) gives to a name and nothing besides, else "".

    Debian's installer writes such a line ("127.0.1.1 NAME"), and `--network host` takes it along.
    """
    found = [
        fields[0]
        for line in (read_text(root / "etc/hosts") or "").splitlines()
        if name in (fields := line.partition("#")[0].split())[1:]
    ]
    return found[0] if found and all(map(is_loopback, found)) else ""


def is_loopback(address: str) -> bool:
    """Return whether an address, as text, is one that leads to the machine itself."""
    return address.startswith("127.") or address == "::1"


def default_interface(root: Path = Path("/")) -> str:
    """Return the interface of the default route, "" where there is none: proc_pid_net(5)."""
    for line in (read_text(root / "proc/net/route") or "").splitlines()[1:]:
        interface, destination, _, flags, *_ = line.split()
        if destination == _ANYWHERE and int(flags, 16) & _IS_UP:
            return interface
    return ""


def has_no_network(root: Path = Path("/")) -> bool:
    """Return whether no interface but loopback is up, as with `docker run --network none`.

    A new network has more of them, which are down: those of tunnels (ip-tunnel(8)).
    """
    folders = attempt(lambda: sorted((root / "sys/class/net").iterdir())) or ()
    texts = (read_text(one / "flags") for one in folders)
    flags = [int(text, 16) for text in texts if text]
    return bool(flags) and not any(flag & _IFF_UP and not flag & _IFF_LOOPBACK for flag in flags)


def has_the_machines_network(root: Path = Path("/")) -> bool:
    """Return whether the interfaces are the machine's own, as with `docker run --network host`.

    A container's are halves of pairs.  A machine has network cards, and an engine's bridges:
    ABI/testing/sysfs-class-net.
    """
    folders = attempt(lambda: sorted((root / "sys/class/net").iterdir())) or ()
    return any((one / sign).exists() for one in folders for sign in ("device", "bridge"))
