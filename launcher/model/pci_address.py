"""PCI addresses as NVML has them ("00000000:3B:00.0") and as sysfs does ("0000:3b:00.0").  Pure."""

from __future__ import annotations


def in_sysfs(bus_id: str) -> str:
    """Return the name of its folder: lower case, a domain of at least four digits."""
    domain, _, rest = bus_id.lower().partition(":")
    return f"{domain.lstrip('0'):0>4}:{rest}"
