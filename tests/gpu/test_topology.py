"""Every cell of `launcher topo` beside `nvidia-smi topo -m`."""

from __future__ import annotations

import pytest

from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report
from testing.gpu.smi import read_topology

Cells = dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def cells(machine: TestedMachine, report: Report) -> tuple[Cells, Cells]:
    """Return ours and theirs, by the names of row and column."""
    printed = machine.ask_smi("topo", "-m")
    if printed is None:
        pytest.skip("there is no nvidia-smi topo -m to compare with")
    done = machine.launcher("topo")
    assert done.returncode == 0, done.stderr
    report.texts["launcher topo"], report.texts["nvidia-smi topo -m"] = done.stdout, printed
    return read_topology(done.stdout), read_topology(printed)


def chosen(cells: Cells, kind: str) -> Cells:
    return {key: cell for key, cell in cells.items() if kind in _kind(*key)}


def _kind(row: str, column: str) -> str:
    if row.startswith("NIC") or column.startswith("NIC"):
        return "nic"
    return "gpu" if column.startswith("GPU") and column != "GPU NUMA ID" else column


def test_every_way_between_two_gpus(cells: tuple[Cells, Cells]) -> None:
    ours, theirs = (chosen(each, "gpu") for each in cells)
    assert theirs
    assert ours == theirs


@pytest.mark.parametrize("column", ["CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])
def test_where_the_gpus_sit(cells: tuple[Cells, Cells], column: str) -> None:
    ours, theirs = (chosen(each, column) for each in cells)
    if not theirs:
        pytest.skip(f"this nvidia-smi prints no {column}")
    # What it does not know it prints as N/A or not at all; we do the first in the last column only.
    unknown = "N/A" if column == "GPU NUMA ID" else ""
    assert ours == {key: unknown if cell in ("", "N/A") else cell for key, cell in theirs.items()}


def test_every_way_to_a_network_card(machine: TestedMachine, cells: tuple[Cells, Cells]) -> None:
    if not machine.real:
        pytest.skip("the network cards in /sys are not the simulated machine's")
    ours, theirs = (chosen(each, "nic") for each in cells)
    if not ours and not theirs:
        pytest.skip("this machine has no network card for RDMA")
    assert ours == theirs
