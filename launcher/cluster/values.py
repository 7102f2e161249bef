"""What may say a node's place: counts, numbers of nodes, hosts, ports, lists of hosts.  Pure.

What cannot be read is refused with its name and what it accepts.  Passed over, it would be one
machine where there are two, or a port that the other nodes do not have.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Sequence

from launcher.model.errors import BadSetting

MOST = 1_000_000  # nodes that are believed
_MOST_DIGITS = 10  # of any number: a federation's Slurm jobs have ten
_SHOWN = 60  # characters of a value
# As torchrun's own reading of an endpoint has it (elastic/rendezvous/utils.py), without what no
# resolver takes.  A name has 253 characters at most (RFC 1035, 2.3.4).
_NAME = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?"
# A Kubernetes Service called `master` puts MASTER_PORT=tcp://10.0.0.1:29500 into every pod.
_LINK = r"(?:tcp|udp|sctp)://\S+"
PLACE = "--nnodes=N --node-rank=R --master-addr=HOST"  # what says a place by hand


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def quoted(text: str) -> str:
    """Return a value as it is shown: escaped, and not all of it where it is long."""
    return repr(text[:_SHOWN]) + "…" * (len(text) > _SHOWN)


def unreadable(name: str, text: str, expected: str) -> BadSetting:
    """Return the refusal of a value of a platform's, which a user may not have set."""
    return BadSetting(
        f"{name}={quoted(text)}: expected {expected}; unset it, or say where this node is: {PLACE}"
    )


def number(text: str | None) -> int | None:
    """Return a whole number from 0, or None where the text is none: a variable may say anything."""
    text = (text or "").strip()
    whole = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if whole else None


def whole(name: str, text: str) -> int:
    """Return a whole number from 0.  Raises BadSetting."""
    found = number(text)
    if found is None:
        raise unreadable(name, text, "a whole number from 0")
    return found


def count(name: str, text: str) -> int:
    """Return a number of nodes.  Raises BadSetting."""
    found = number(text)
    if not found or found > MOST:
        raise unreadable(name, text, f"the number of nodes, 1 to {MOST}")
    return found


def rank(name: str, text: str) -> int:
    """Return a node's number.  Raises BadSetting."""
    found = number(text)
    if found is None or found >= MOST:
        raise unreadable(name, text, "this node's number, from 0")
    return found


def port(text: str) -> int | None:
    """Return a TCP port; None for anything else."""
    found = number(text)
    return found if found and found < 65536 else None


def is_link(text: str) -> bool:
    """Return whether a "port" is what Kubernetes makes of a Service of that name."""
    return re.fullmatch(_LINK, text.strip()) is not None


def platform_port(name: str, text: str) -> int | None:
    """Return the port that a platform says; None for a Service's link.  Raises BadSetting."""
    found = port(text)
    if found is None and not is_link(text):
        raise unreadable(name, text, "a port, 1 to 65535")
    return found


def host(text: str) -> str | None:
    """Return a host's name or address, without an IPv6 address's brackets; None for anything else.

    torchrun takes no IPv6 address with an interface (`fe80::1%eth0`).
    """
    text = text.strip()
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    found = _address(bare)
    if found is not None:
        return bare if bare == text or found.version == 6 else None
    is_name = re.fullmatch(_NAME, text) and not re.fullmatch(r"[0-9]+(\.[0-9]+)+", text)
    return text if is_name else None


def platform_host(name: str, text: str) -> str:
    """Return the host that a platform says.  Raises BadSetting."""
    found = host(text)
    if found is None:
        raise unreadable(name, text, "a host's name or address")
    return found


def hosts(name: str, listed: Sequence[str], nodes: int | None = None, said: str = "") -> None:
    """Refuse a list that names a host twice, or not as many as there are nodes.  Raises BadSetting.

    Args:
        nodes: how many there are; None = as many as are listed.
        said: which variable says so.
    """
    ((twice, times),) = Counter(listed).most_common(1) or (("", 0),)
    if times > 1:
        raise BadSetting(
            f"{name} names {quoted(twice)} twice, so two nodes would have one number: unset it, or "
            f"say where this node is: {PLACE}"
        )
    if nodes is not None and len(listed) != nodes:
        raise BadSetting(
            f"{name} names {len(listed)} hosts and {said}={nodes}: one of them is left from "
            f"somewhere else; unset it, or say where this node is: {PLACE}"
        )


def split_endpoint(text: str) -> tuple[str, str | None]:
    """Split "host:port", "[fd00::1]:port" or a bare host, as torchrun does.

    "fd00::1" is the host `fd00:` and the port 1 to torchrun; here it is a host that is none.
    """
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return text, None
    before, colon, after = text.rpartition(":")
    return (before, after) if colon else (text, None)


def are_one_host(one: str, other: str) -> bool | None:
    """Return whether two names or addresses are of one host, as far as they say it themselves.

    None = perhaps: an address and a name, two kinds of address, `gpu1` and `gpu1-ib`.
    """
    addresses = _address(one), _address(other)
    if all(addresses):
        same = addresses[0] == addresses[1]
        local = all(address.is_loopback for address in addresses if address)
        alike = {address.version for address in addresses if address}
        return same or (None if local or len(alike) > 1 else False)
    if any(addresses):
        return None
    short, long = sorted((one.lower().rstrip("."), other.lower().rstrip(".")), key=len)
    if short == long or long.startswith(f"{short}."):
        return True
    labels = sorted((name.partition(".")[0] for name in (short, long)), key=len)
    perhaps = labels[0] == labels[1] or labels[1].startswith(f"{labels[0]}-")
    return None if perhaps else False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None
