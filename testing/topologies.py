"""Real machines: what somebody printed → a description for the simulated driver → what we read.

What a matrix does not show (names, memory, what NVLinks lead to) is filled in by its name.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from uuid import NAMESPACE_DNS, uuid5

import pytest

from launcher.model import codec
from launcher.model.machine import GpuReport
from sim import description, driver
from testing.printed import Both, Matrix, matrices


@dataclass(frozen=True)
class Card:
    """What a matrix does not show of its GPUs."""

    name: str
    memory: int | None  # MiB
    capability: str
    nvlinks: int = 0
    version: str = ""
    switches: int = 0  # NVSwitches of its board
    hidden: bool = False  # in a VM, which does not see them
    fabric: str | None = None


_V100 = Card("Tesla V100-SXM2-32GB", 32768, "7.0", 6, "2.0")
_A100 = Card("NVIDIA A100-SXM4-40GB", 40960, "8.0", 12, "3.1")
_A100_PCIE = Card("NVIDIA A100-PCIE-40GB", 40960, "8.0", 12, "3.1")
_H100 = Card("NVIDIA H100 80GB HBM3", 81559, "9.0", 18, "4.0", 4, fabric="completed")
_RTX3090 = Card("NVIDIA GeForce RTX 3090", 24576, "8.6", 4, "3.1")

# How the name of the file begins; the first that fits.
_CARDS = {
    "a100-6x": _A100_PCIE,
    "a100-mixed": _A100_PCIE,  # it is not told which are the SXM ones
    "a100-pcie": _A100_PCIE,
    "a100-sxm-8x": replace(_A100, switches=6),
    "a100-4x": _A100,
    "a10g": Card("NVIDIA A10G", 23028, "8.6"),
    "a40": Card("NVIDIA A40", 46068, "8.6", 4, "3.1"),
    "a800": Card("NVIDIA A800-SXM4-80GB", 81920, "8.0", 8, "3.1", 4),
    "brev": replace(_H100, hidden=True),
    "delta": _A100,
    "dgx-a100": replace(_A100, switches=6),
    "dgx-h100": _H100,
    "dgx1": replace(_V100, name="Tesla V100-SXM2-16GB", memory=16384),
    "dgx2": replace(_V100, name="Tesla V100-SXM3-32GB", switches=6),
    "gb10": Card("NVIDIA GB10", None, "12.1"),
    "gpu-": Card("NVIDIA GPU", None, "7.0"),
    "gtx1080ti": Card("NVIDIA GeForce GTX 1080 Ti", 11264, "6.1"),
    "h100-8x-nv18-single-numa-vm": replace(_H100, hidden=True),
    "h100": _H100,
    "h20": replace(_H100, name="NVIDIA H20", memory=97871, fabric="not-started"),
    "l40s": Card("NVIDIA L40S", 46068, "8.9"),
    "levante": _A100,
    "nvl-container": replace(_A100, switches=6),
    "p100": Card("Tesla P100-SXM2-16GB", 16384, "6.0", 4, "1.0"),
    "princeton": _A100,
    "rtx-2x-nv2-titan": Card("NVIDIA TITAN RTX", 24576, "7.5", 2, "2.2"),
    "rtx3090": _RTX3090,
    "rtx4090": Card("NVIDIA GeForce RTX 4090", 24564, "8.9"),
    "rtx5090": Card("NVIDIA GeForce RTX 5090", 32607, "12.0"),
    "v100": _V100,
}


def card_of(matrix: Matrix) -> Card:
    return next(card for start, card in _CARDS.items() if matrix.name.startswith(start))


def describe(matrix: Matrix) -> str:
    """Return the machine as a description for the simulated driver."""
    card = card_of(matrix)
    about = [("driver_version", "550.54.15"), ("nvml_version", "12.550.54.15")]
    every = [("name", card.name), ("compute_capability", card.capability)]
    every += [("memory_total", f"{card.memory} MiB")] if card.memory else []
    every += [("fabric_state", card.fabric)] if card.fabric else []
    everyone = range(matrix.gpus)
    sections = [
        description.Section("machine", [*about, ("cuda_version", "12.4")]),
        description.Section("gpu *", every),
        *(description.Section(f"gpu {gpu}", list(_gpu(matrix, card, gpu))) for gpu in everyone),
        _rows(
            "pcie", matrix.gpus, {both: pcie(matrix, *both) for both in combinations(everyone, 2)}
        ),
    ]
    linked = {both: bool(nvlinks(matrix, *both)) for both in combinations(everyone, 2)}
    nvlink = {both: "OK" if up else "NS" for both, up in linked.items()}
    read = {both: "OK" if up else matrix.p2p.get(both, "?") for both, up in linked.items()}
    sections += [_rows("p2p read", matrix.gpus, read), _rows("p2p nvlink", matrix.gpus, nvlink)]
    return description.write(sections)


def _gpu(matrix: Matrix, card: Card, gpu: int) -> Iterator[tuple[str, str]]:
    yield "uuid", f"GPU-{uuid5(NAMESPACE_DNS, f'{matrix.name} {gpu}')}"
    yield "pci_bus_id", bus_id(matrix, gpu)
    yield "minor_number", str(gpu)
    if gpu in matrix.cpus:
        yield "cpu_affinity", matrix.cpus[gpu]
    if node := matrix.nodes.get(gpu):
        yield "memory_affinity", node
        if node.isdecimal():
            yield "numa_node", node
    yield from _links(matrix, card, gpu)


def _links(matrix: Matrix, card: Card, gpu: int) -> Iterator[tuple[str, str]]:
    """Yield a GPU's NVLinks: to its peers or to the switches; the rest are down."""
    up = f"enabled, version {card.version}, "
    ends: list[str] = []
    if card.switches and matrix.cells.get((0, 1), "").startswith("NV"):
        switches = ["" if card.hidden else f" 00000000:F{n}:00.0" for n in range(card.switches)]
        ends = [f"{up}switch{switches[n % card.switches]}, p2p" for n in range(card.nvlinks)]
    elif not card.switches:
        for peer in range(matrix.gpus):
            count = 0 if peer == gpu else nvlinks(matrix, gpu, peer)
            ends += [f"{up}gpu {bus_id(matrix, peer)}, p2p"] * count
    ends += ["disabled"] * (card.nvlinks - len(ends))
    return ((f"nvlink {number}", end) for number, end in enumerate(ends))


def nvlinks(matrix: Matrix, a: int, b: int) -> int:
    """Return the NVLinks between two GPUs; what `topo -mp` hides is a full mesh of them."""
    card = card_of(matrix)
    if matrix.pcie_only:
        return card.nvlinks // (matrix.gpus - 1)
    # A cell that was cut off: all are alike behind switches.
    cell = matrix.cells.get((a, b), matrix.cells[0, 1] if card.switches else "?")
    return int(cell[2:]) if cell.startswith("NV") else 0


def pcie(matrix: Matrix, a: int, b: int) -> str:
    """Return the PCIe path between two GPUs; the one that NV# hides follows from where they sit."""
    cell = matrix.cells.get((a, b), "?")
    if not cell.startswith("NV"):
        return cell
    where = matrix.nodes or matrix.cpus
    if a not in where or b not in where:
        return "?"
    return "NODE" if where[a] == where[b] else "SYS"


def bus_id(matrix: Matrix, gpu: int) -> str:
    """Return a made-up PCI address; that of a GB10 is known for its domain."""
    domain = 0xF if matrix.name.startswith("gb10") else 0
    return f"{domain:08X}:{1 + 14 * gpu:02X}:00.0"


def _rows(name: str, gpus: int, cells: dict[Both, str]) -> description.Section:
    lines = [
        (str(a), " ".join("X" if a == b else cells[min(a, b), max(a, b)] for b in range(gpus)))
        for a in range(gpus)
    ]
    return description.Section(name, lines)


# --- what the launcher reads on it -----------------------------------------------------------

_READ = """
import os, sys
from launcher.detect import nvml
from launcher.model import codec
for path in sys.argv[1:]:
    os.environ["NVSIM_MACHINE"] = path
    print(codec.to_json(nvml.read_report()))
"""


def read_machines(paths: Sequence[str | Path]) -> list[GpuReport]:
    """Return the reports of described machines.  One child reads them all."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, so the simulated driver cannot be built")
    env = driver.environment(driver.build(driver.CACHE), paths[0])
    command = [sys.executable, "-c", _READ, *map(str, paths)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    return [codec.from_json(GpuReport, line) for line in done.stdout.splitlines()]


def read_texts(texts: Sequence[str]) -> list[GpuReport]:
    """Return the reports of machines given by their descriptions."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.machine" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return read_machines(paths)


@cache
def reports() -> dict[str, GpuReport]:
    """Return what the launcher reads on every machine of the collection, by name."""
    texts = [describe(matrix) for matrix in matrices().values()]
    return dict(zip(matrices(), read_texts(texts), strict=True))
