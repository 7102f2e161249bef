"""Integrated GPUs: without a PCI address, a minor number, or memory of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.checks import judge
from launcher.detect import driver as detect_driver
from launcher.detect.cgroup import memory_available
from launcher.gpus.record import describe
from launcher.model.errors import BadSetting
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuReport
from launcher.plan.devices import is_idle, plan_devices
from launcher.text.text import device_lines
from launcher.text.topology import topology_lines
from sim import driver
from testing.machines import GIB, machine, settings
from testing.topologies import read_machines, read_texts
from testing.values import replace
from tests.unit.detect.test_detect import tree

MEMINFO = {"proc/meminfo": "MemTotal: 125829120 kB\nMemAvailable: 104857600 kB\n"}  # 120, 100 GiB


def read(name: str) -> GpuReport:
    (report,) = read_machines([driver.find(name)])
    return report


def with_memory(name: str, root: Path, total: int = 120 * GIB) -> GpuReport:
    """Return the report as a start has it, on a machine whose files are below `root`."""
    return detect_driver._share_memory(read(name), total, root)


def test_what_nvml_does_not_tell_of_a_jetson_makes_it_no_lost_one() -> None:
    report = read("orin")
    assert (report.failure, report.lost) == (None, ())
    (gpu,) = report.gpus
    assert (gpu.name, gpu.pci_bus_id, gpu.place, gpu.minor) == (
        "Orin (nvgpu)", None, "integrated", None,
    )  # fmt: skip
    assert (gpu.memory_bytes, gpu.memory_shared) == (None, True)
    assert gpu.smi_id == gpu.uuid
    plan = plan_devices(report, settings())
    assert [var.value for var in plan.environment] == ["PCI_BUS_ID", "0"]
    found = machine(report)
    assert judge(Evidence(found, {})).failure is None
    assert topology_lines(report, ()) is not None


def test_an_odd_bus_id_is_an_address() -> None:
    (gpu,) = read("gb10").gpus
    assert (gpu.pci_bus_id, gpu.memory_shared) == ("0000000F:01:00.0", True)


@pytest.mark.parametrize("name", ["orin", "gb10"])
def test_a_memory_of_nothing_is_none(name: str) -> None:
    text = driver.find(name).read_text() + "\nmemory_total = 0 MiB\nmemory_used = 0 MiB\n"
    (report,) = read_texts([text])
    assert (report.gpus[0].memory_bytes, report.gpus[0].memory_shared) == (None, True)


@pytest.mark.parametrize("name", ["h100-8x", "rtx4090-1x", "a100-mig", "h200-vm", "k80"])
def test_a_card_with_memory_shares_none(name: str) -> None:
    assert not any(gpu.memory_shared for gpu in read(name).gpus)


def test_a_card_that_only_does_not_tell_its_memory_has_its_own() -> None:
    text = driver.find("rtx4090-1x").read_text()
    faults = "\n[faults]\nnvmlDeviceGetMemoryInfo = return {}\n"
    for report in read_texts([text + faults.format(code) for code in (3, 4, 999)]):
        assert (report.gpus[0].memory_bytes, report.gpus[0].memory_shared) == (None, False)


def test_its_memory_is_the_machines(tmp_path: Path) -> None:
    (gpu,) = with_memory("gb10", tree(tmp_path, MEMINFO)).gpus
    assert (gpu.memory_bytes, gpu.memory_free) == (120 * GIB, 100 * GIB)


@pytest.mark.parametrize("free", ["20GiB", "100GiB"])
def test_free_memory_can_be_asked_for(tmp_path: Path, free: str) -> None:
    report = with_memory("gb10", tree(tmp_path, MEMINFO))
    plan = plan_devices(report, settings({"LAUNCHER_GPU_MIN_FREE": free}))
    assert plan.environment[-1].value == "0"
    with pytest.raises(BadSetting, match="100 GiB free, 0 processes"):
        plan_devices(report, settings({"LAUNCHER_GPU_MIN_FREE": "101GiB"}))


def test_what_the_cpu_uses_of_it_makes_no_gpu_busy(tmp_path: Path) -> None:
    (gpu,) = with_memory("gb10", tree(tmp_path, MEMINFO)).gpus
    assert is_idle(replace(gpu, processes=0))
    assert not is_idle(replace(gpu, processes=1))


def test_memory_that_is_nearly_full_is_called_shared(tmp_path: Path) -> None:
    full = {"proc/meminfo": "MemTotal: 125829120 kB\nMemAvailable: 1048576 kB\n"}
    report = with_memory("gb10", tree(tmp_path, full))
    found = {one.id: one.what for one in judge(Evidence(machine(report), {})).warnings}
    assert found["resources.memory_full"].endswith("MiB free, shared with the CPU")


@pytest.mark.parametrize("name", ["orin", "gb10"])
def test_the_banner_says_whose_memory_it_is(tmp_path: Path, name: str) -> None:
    lines = device_lines(machine(with_memory(name, tree(tmp_path, MEMINFO))))
    assert "120 GiB" in lines[1]
    assert lines[-1].strip() == "GPU 0: the memory is the machine's, shared with the CPU"


def test_a_recording_does_not_say_what_the_driver_does_not(tmp_path: Path) -> None:
    report = with_memory("gb10", tree(tmp_path, MEMINFO))
    (again,) = read_texts([describe(report)])
    assert "memory" not in describe(report)
    assert again.gpus[0].memory_shared


# --- what is left of it ------------------------------------------------------------------------

V2, V1 = {"proc/self/cgroup": "0::/\n"}, {"proc/self/cgroup": "5:memory:/box\n"}
OF_V1 = "sys/fs/cgroup/memory/box"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 100),
        ({**V2, "sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "1"}, 100),
        (
            {
                **V2,
                "sys/fs/cgroup/memory.max": str(64 * GIB),
                "sys/fs/cgroup/memory.current": str(30 * GIB),
            },
            34,
        ),
        (
            {
                **V2,
                "sys/fs/cgroup/memory.max": str(64 * GIB),
                "sys/fs/cgroup/memory.current": str(30 * GIB),
                "sys/fs/cgroup/memory.stat": f"anon 7\ninactive_file {10 * GIB}\n",
            },
            44,
        ),
        (
            {
                **V1,
                f"{OF_V1}/memory.limit_in_bytes": str(8 * GIB),
                f"{OF_V1}/memory.usage_in_bytes": str(9 * GIB),
                f"{OF_V1}/memory.stat": f"total_inactive_file {2 * GIB}\n",
            },
            1,
        ),
        ({**V2, "sys/fs/cgroup/memory.max": str(500 * GIB)}, 100),
    ],
)
def test_what_is_left_of_the_machines_memory(tmp_path: Path, files: dict, left: int) -> None:
    assert memory_available(tree(tmp_path, {**MEMINFO, **files})) == left * GIB


def test_a_machine_that_hides_it(tmp_path: Path) -> None:
    assert memory_available(tmp_path) is None
