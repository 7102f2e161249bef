"""`nvidia-smi topo -m` as people printed it: tabs or spaces, some of it cut off or glued."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FILES = sorted((Path(__file__).parents[1] / "tests" / "data" / "topologies").glob("*.txt"))
NAMES = [path.stem for path in FILES]

_CELL = r"(?:X|NV\d+|PIX|PXB|PHB|NODE|SYS|\?)"

Both = tuple[int, int]


@dataclass(frozen=True)
class Matrix:
    """What a printed matrix says; a row that was cut off says nothing."""

    name: str
    gpus: int
    nics: tuple[str, ...]
    cells: dict[Both, str] = field(default_factory=dict)  # of two GPUs, in both orders
    nic_cells: dict[Both, str] = field(default_factory=dict)  # GPU, place of the NIC
    cpus: dict[int, str] = field(default_factory=dict)
    nodes: dict[int, str] = field(default_factory=dict)  # a number, or several as "0-3"
    p2p: dict[Both, str] = field(default_factory=dict)  # of `topo -p2p`, where it was printed too

    @property
    def complete(self) -> bool:
        return not self.name.endswith(".partial")

    @property
    def pcie_only(self) -> bool:
        """Whether it was printed by `topo -mp`, which does not show NVLink."""
        return self.name.endswith("-mp")


def parse(text: str, name: str = "") -> Matrix:
    """Return a printed matrix.  Words that a copy glued together are taken apart."""
    printed, _, p2p = text.partition("# nvidia-smi topo -p2p")
    header, *rows = (line for line in printed.splitlines() if not line.startswith("#"))
    devices = re.findall(r"GPU\d+|NIC\d+|mlx5_\d+", header)
    nics = tuple(device for device in devices if not device.startswith("GPU"))
    matrix = Matrix(name, len(devices) - len(nics), nics)
    for row in rows:
        if found := re.match(rf"GPU(\d+)((?:\s*{_CELL}){{{len(devices)}}})(.*)", row):
            _take_row(matrix, int(found[1]), re.findall(_CELL, found[2]), found[3])
    for row, cells in re.findall(r"^\s*GPU(\d+)((?:[\t ]+[A-Z]+\b)+)", p2p, re.MULTILINE):
        matrix.p2p.update(((int(row), at), cell) for at, cell in enumerate(cells.split()))
    return matrix


def _take_row(matrix: Matrix, gpu: int, cells: Sequence[str], affinity: str) -> None:
    for at, cell in enumerate(cells):
        if at < matrix.gpus:
            matrix.cells[gpu, at] = matrix.cells[at, gpu] = cell
        else:
            matrix.nic_cells[gpu, at - matrix.gpus] = cell
    # nvidia-smi leaves a cell empty, and puts a second tab before the last column.
    columns = affinity.split("\t")[1:] if "\t" in affinity else affinity.split()
    if columns:
        matrix.cpus[gpu] = columns[0].strip()
    if node := next((text.strip() for text in columns[1:3] if text.strip() not in ("", "N/A")), ""):
        matrix.nodes[gpu] = node


@cache
def matrices() -> dict[str, Matrix]:
    """Return every matrix of the collection, by name."""
    return {path.stem: parse(path.read_text(), path.stem) for path in FILES}
