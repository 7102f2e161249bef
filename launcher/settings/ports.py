"""LAUNCHER_PORTS: programs of the user's that are reached below Jupyter's address.  Pure."""

from __future__ import annotations

import re

from launcher.model.plan import NamedPort

_ENTRY = r"([0-9]{1,5})=(.{1,40})"
_MOST = 50


def named_ports(text: str) -> tuple[NamedPort, ...]:
    """Return the ports and their names; a name is data, shown as it is.

    Raises ValueError where an entry is none, or where a port comes twice.
    """
    found = tuple(map(_entry, text.removesuffix(",").split(",")))
    if len({named.port for named in found}) < len(found) or len(found) > _MOST:
        raise ValueError(f"each port once, at most {_MOST} of them")
    return found


def _entry(text: str) -> NamedPort:
    match = re.fullmatch(_ENTRY, text.strip())
    if not match or not text.isprintable() or not 1 <= int(match[1]) <= 65535:
        raise ValueError(
            "PORT=NAME apart by commas, such as 7860=Gradio,6006=TensorBoard; a name has up to 40 "
            "printable characters without a comma"
        )
    return NamedPort(int(match[1]), match[2].strip())
