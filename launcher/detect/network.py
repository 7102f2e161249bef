"""What this node sees of the network: its interfaces, the way to the master, cards for RDMA."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.detect import rdma, rtnetlink
from launcher.detect.cgroup import read_text
from launcher.model.network import Network

_ROOT = Path("/")
_PATIENCE = 5.0  # seconds for one name; a name server that is not there takes longer than anybody
# Nobody is there (RFC 5737): connecting a datagram socket sends nothing, and tells the default way.
_ELSEWHERE = "192.0.2.1"
_SET = re.compile(r"^\s*(NCCL_\w+)\s*=", re.MULTILINE)


def read_network(
    master: str | None, environ: Mapping[str, str], home: str = "", root: Path = _ROOT
) -> Network:
    """Return what there is to see.

    Args:
        master: name or address of node 0; None = the default way instead.
        home: of the user, whose ~/.nccl.conf NCCL reads.
    """
    hostname = socket.gethostname()
    found = addresses_of(master) if master else ()
    source, why = _source(found[0] if found else _ELSEWHERE)
    try:
        interfaces = rtnetlink.read_interfaces()
    except OSError:
        interfaces = ()
    ports = rdma.read_ports(root)
    return Network(
        hostname=hostname,
        own_addresses=addresses_of(hostname),
        interfaces=interfaces,
        master_addresses=found,
        source=source,
        unreachable=why,
        rdma=ports,
        nics=rdma.read_nics(root) if len(ports) > 1 else (),
        in_files=tuple(_set_in_files(environ, home)),
    )


def addresses_of(name: str, seconds: float = _PATIENCE) -> tuple[str, ...]:
    """Return what a name stands for; nothing where it has no address, or none comes in time."""
    found: list[str] = []

    def ask() -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        found.extend(dict.fromkeys(str(address[0]) for *_, address in answers))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return tuple(found)


def _source(address: str) -> tuple[str | None, str]:
    """Return the address that the kernel would send from, or why it cannot.

    A connected datagram socket asks the kernel's own table, on the master itself too, where a look
    at the route would say `lo` (ip(7), connect(2)).
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((address, 9))
            return str(asking.getsockname()[0]), ""
    except OSError as err:
        return None, err.strerror or str(err)


def _set_in_files(environ: Mapping[str, str], home: str) -> Iterator[tuple[str, str]]:
    """Yield NCCL's variables that its files set: the environment would beat an administrator's."""
    own = environ.get("NCCL_CONF_FILE") or (f"{home}/.nccl.conf" if home else "")
    for path in filter(None, (own, "/etc/nccl.conf")):
        for name in _SET.findall(read_text(Path(path)) or ""):
            yield name, path
