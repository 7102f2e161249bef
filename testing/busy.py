"""A simulated machine on which somebody computes: what goes up and down, counters, and an Xid."""

from __future__ import annotations

from pathlib import Path

from sim import driver

# Of every GPU: what moves, and what is transferred a second.
BUSY = {
    "utilization_gpu": "20 % to 95 %",
    "utilization_memory": "10 % to 60 %",
    "memory_used": "20 GiB to 70 GiB",
    "temperature": "40 C to 80 C",
    "temperature_memory": "45 C to 85 C",
    "power_usage": "200 W to 690 W",
    "energy_counter": "yes",
    "clock_sm": "1200 MHz to 1980 MHz",
    "pcie_replays": "3",
    "pcie_sent": "900 MiB",
    "pcie_received": "100 MiB",
    "link_sent": "2 GiB",
    "link_received": "1 GiB",
}


def busy(path: Path, machine: str = "h100-8x", **first: str) -> Path:
    """Write a busy `machine` to `path`; `first` is said of GPU 0 besides.  Return `path`."""
    return driver.vary(machine, {"gpu *": BUSY, "gpu 0": first}, path)
