"""Where devices sit, from sysfs trees as the kernel lays them out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from launcher.detect import sysfs
from launcher.gpus import topology
from launcher.model.machine import GpuReport
from testing.printed import Matrix, matrices, parse
from testing.topologies import reports
from testing.values import replace

WITH_NICS = [name for name, matrix in matrices().items() if matrix.nics]

# From the shortest way to the longest: what two devices share, they share at every longer one.
LEVELS = ("PIX", "PXB", "PHB", "NODE")


@dataclass(frozen=True)
class Place:
    """Numbers of what a device sits below: those of two devices are equal where it is the same."""

    node: int
    root: int
    port: int  # of the root complex, with the first switch below it
    switch: int  # the second one, with a port for each device


def place_devices(matrix: Matrix) -> dict[int, Place]:
    """Return where each device sits; network cards are numbered after the GPUs.

    The nodes that follow from the cells need not be those of the affinity columns: nvidia-smi can
    print SYS inside one node, which no tree in sysfs shows.
    """
    cells = {both: cell for both, cell in matrix.cells.items() if not cell.startswith("NV")}
    cells |= {(gpu, matrix.gpus + nic): cell for (gpu, nic), cell in matrix.nic_cells.items()}
    devices = range(matrix.gpus + len(matrix.nics))

    def groups(level: str) -> list[int]:
        """Return for each device the lowest of those that it reaches within `level`."""
        near = LEVELS[: LEVELS.index(level) + 1]
        home = list(devices)
        for _ in devices:
            for (a, b), cell in cells.items():
                if cell in near:
                    home[a] = home[b] = min(home[a], home[b])
        return home

    found = zip(*(groups(level) for level in reversed(LEVELS)), strict=True)
    return {device: Place(*numbers) for device, numbers in zip(devices, found, strict=True)}


def write_sysfs(root: Path, matrix: Matrix, report: GpuReport) -> None:
    """Write the part of /sys that holds the GPUs, the network cards and the bridges above them.

    …/pci0000:R/<root port>/<switch>/<its port>/<second switch>/<its port>/<device>
    """
    places = place_devices(matrix)
    for device, place in places.items():
        is_gpu = device < matrix.gpus
        address = kernel_address(report, device) if is_gpu else nic_address(device)
        bridges = [
            f"0000:{place.root:02x}:{place.port:02x}.0",
            f"0000:{0x40 + place.port:02x}:00.0",
            f"0000:{0x60 + place.port:02x}:{place.switch:02x}.0",
            f"0000:{0x80 + place.switch:02x}:00.0",
            f"0000:{0xA0 + place.switch:02x}:{device:02x}.0",
        ]
        folder = root.joinpath("sys/devices", f"pci0000:{place.root:02x}", *bridges, address)
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{place.node}\n")
        (folder / "local_cpulist").write_text(f"{4 * place.node}-{4 * place.node + 3}\n")
        link(root / "sys/bus/pci/devices" / address, folder)
        if not is_gpu:
            name = matrix.nics[device - matrix.gpus]
            link(root / "sys/class/infiniband" / name, folder / "infiniband" / name)
            link(folder / "infiniband" / name / "device", folder)


def link(path: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def kernel_address(report: GpuReport, gpu: int) -> str:
    """0000000F:01:00.0, as NVML writes it, is 000f:01:00.0 to the kernel."""
    return report.gpus[gpu].pci_bus_id[4:].lower()


def nic_address(device: int) -> str:
    return f"0000:f0:{device:02x}.0"


# --- network cards ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_NICS)
def test_the_matrix_has_the_same_columns_of_network_cards(name: str, tmp_path: Path) -> None:
    matrix, report = matrices()[name], reports()[name]
    write_sysfs(tmp_path, matrix, report)
    nics = sysfs.read_nics(report, tmp_path)
    # In the order of their names, which need not be nvidia-smi's.
    assert [nic.name for nic in nics] == sorted(matrix.nics)
    order = [sorted(matrix.nics).index(name) for name in matrix.nics]
    ours = parse("\n".join(topology.matrix(report, nics))).nic_cells
    assert {
        (gpu, place): ours[gpu, order[place]] for gpu, place in matrix.nic_cells
    } == matrix.nic_cells


def test_a_machine_without_rdma_cards(tmp_path: Path) -> None:
    assert sysfs.read_nics(reports()["rtx3090-2x-nv4"], tmp_path) == ()


def test_a_card_without_pci_device_is_none(tmp_path: Path) -> None:
    """Such as rxe0, which is RDMA in software."""
    (tmp_path / "sys/class/infiniband/rxe0").mkdir(parents=True)
    assert sysfs.read_nics(reports()["rtx3090-2x-nv4"], tmp_path) == ()


def test_two_ports_of_one_card_are_one_card(tmp_path: Path) -> None:
    matrix, report = matrices()["p100-2x-nv1"], reports()["p100-2x-nv1"]
    write_sysfs(tmp_path, matrix, report)
    classes = tmp_path / "sys/class/infiniband"
    link(classes / "mlx5_9", (classes / "mlx5_0").resolve())
    assert [nic.name for nic in sysfs.read_nics(report, tmp_path)] == ["mlx5_0"]


def test_cards_have_rows_of_their_own(tmp_path: Path) -> None:
    matrix, report = matrices()["gb10-1x-node-nics"], reports()["gb10-1x-node-nics"]
    write_sysfs(tmp_path, matrix, report)
    rows = topology.matrix(report, sysfs.read_nics(report, tmp_path))[2:]
    assert [row.split("\t")[0] for row in rows] == ["NIC0", "NIC1", "NIC2", "NIC3"]
    cells = [row.split("\t")[2:] for row in rows]
    assert all(cells[n][n] == " X " for n in range(4))
    assert all(cells[a][b] == cells[b][a] != "?" for a in range(4) for b in range(4))


def test_a_network_interface_shows_the_card_behind_it(tmp_path: Path) -> None:
    """Where the container has no RDMA namespace, /sys/class/infiniband is empty."""
    matrix, report = matrices()["p100-2x-nv1"], reports()["p100-2x-nv1"]
    write_sysfs(tmp_path, matrix, report)
    classes = tmp_path / "sys/class"
    (before,) = sysfs.read_nics(report, tmp_path)
    device = (classes / "infiniband/mlx5_0/device").resolve()
    shutil.rmtree(classes / "infiniband")
    link(classes / "net/eth0/device", device)
    assert sysfs.read_nics(report, tmp_path) == (before,)


# --- PCIe ------------------------------------------------------------------------------------

Tree = Callable[[str], Path]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    def device(path: str, node: int = 0) -> Path:
        folder = tmp_path / "sys/devices" / path
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(f"{node}\n")
        return folder

    return device


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        # two functions of one card; two cards at one switch, at two of them, at two root ports
        ("pci0000:17/0000:17:01.0/0000:18:00.0", "pci0000:17/0000:17:01.0/0000:18:00.1", "PIX"),
        (
            "pci0000:17/0000:17:01.0/0000:18:00.0/0000:19:00.0/0000:1a:00.0",
            "pci0000:17/0000:17:01.0/0000:18:00.0/0000:19:01.0/0000:1b:00.0",
            "PIX",
        ),
        (
            "pci0000:17/0000:17:01.0/0000:18:00.0/0000:19:00.0/0000:1a:00.0/0000:1b:00.0/0000:1c:00.0",
            "pci0000:17/0000:17:01.0/0000:18:00.0/0000:19:01.0/0000:1d:00.0",
            "PXB",
        ),
        ("pci0000:00/0000:00:01.0/0000:01:00.0", "pci0000:00/0000:00:03.0/0000:02:00.0", "PHB"),
        ("pci0000:00/0000:00:01.0/0000:01:00.0", "pci0000:40/0000:40:01.0/0000:41:00.0", "NODE"),
        # behind Intel VMD, whose domains have five digits
        ("pci10000:00/10000:00:02.0/10000:01:00.0", "pci0000:00/0000:00:01.0/0000:01:00.0", "NODE"),
    ],
)
def test_classes_of_paths(tree: Tree, one: str, other: str, path: str) -> None:
    a, b = tree(one), tree(other)
    assert sysfs.pcie_path(a, b) == sysfs.pcie_path(b, a) == path


def test_two_sockets(tmp_path: Path, tree: Callable[[str, int], Path]) -> None:
    one = tree("pci0000:00/0000:00:01.0/0000:01:00.0", 0)
    other = tree("pci0000:80/0000:80:01.0/0000:81:00.0", 1)
    assert sysfs.pcie_path(one, other) == "SYS"


def test_no_path_where_the_tree_does_not_tell(tmp_path: Path, tree: Tree) -> None:
    """In gVisor there is no such device; in the simulated /sys it is no link into a tree."""
    device = tree("pci0000:00/0000:00:01.0/0000:01:00.0")
    flat = tmp_path / "sys/bus/pci/devices/0000:02:00.0"
    flat.mkdir(parents=True)
    assert sysfs.pcie_path(device, tmp_path / "absent") is None
    assert sysfs.pcie_path(device, flat) is None


# --- NUMA nodes and CPUs ---------------------------------------------------------------------


def test_sysfs_is_believed_before_nvml(tmp_path: Path) -> None:
    matrix, report = matrices()["a100-4x-nv4-cgroup-cpus"], reports()["a100-4x-nv4-cgroup-cpus"]
    assert {(gpu.numa_node, gpu.cpus, gpu.cpus_filtered) for gpu in report.gpus} == {
        (None, "0,64", True)  # of each GPU alike: what the container's cpuset leaves
    }
    write_sysfs(tmp_path, matrix, report)
    located = sysfs.locate_gpus(report, tmp_path)
    places = place_devices(matrix)
    for gpu in located.gpus:
        node = places[gpu.index].node
        assert (gpu.numa_node, gpu.cpus) == (node, f"{4 * node}-{4 * node + 3}")
        assert not gpu.cpus_filtered


@pytest.mark.parametrize("written", [None, "-1\n", "\n"])  # no sysfs; no NUMA known to the kernel
def test_nvml_is_believed_where_sysfs_says_nothing(tmp_path: Path, written: str | None) -> None:
    report = reports()["h100-sxm-8x-nv18-2numa"]
    for gpu in report.gpus if written is not None else ():
        folder = tmp_path / "sys/bus/pci/devices" / kernel_address(report, gpu.index)
        folder.mkdir(parents=True)
        (folder / "numa_node").write_text(written or "")
    assert sysfs.locate_gpus(report, tmp_path) == report
    assert {gpu.numa_node for gpu in report.gpus} == {0, 1}
    assert {gpu.cpus_filtered for gpu in report.gpus} == {True}


@pytest.mark.parametrize(
    ("nvml", "kernel"),
    [
        ("00000000:18:00.0", "0000:18:00.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:AF:00.0", "10000:af:00.0"),
    ],
)
def test_addresses_as_the_kernel_writes_them(tmp_path: Path, nvml: str, kernel: str) -> None:
    report = reports()["gb10-1x-node-nics"]
    moved = replace(report, gpus=(replace(report.gpus[0], pci_bus_id=nvml),))
    folder = tmp_path / "sys/bus/pci/devices" / kernel
    folder.mkdir(parents=True)
    (folder / "numa_node").write_text("5\n")
    assert sysfs.locate_gpus(moved, tmp_path).gpus[0].numa_node == 5
