"""What NVML is read as, against the simulated driver: pynvml runs unmodified, in a child."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from launcher.model import codec
from launcher.model.machine import DriverFailure, GpuReport
from sim import description, driver

ROOT = Path(__file__).parents[3]
READ = """
from launcher.detect import nvml
from launcher.model import codec
print(codec.to_json(nvml.read_report()))
"""

Read = Callable[..., GpuReport]


def run_reader(env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", READ],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.fixture
def read(simulated: Callable[..., dict[str, str]]) -> Read:
    """Return the report of a simulated machine, with some of its description changed."""

    def report(machine: str, changes: Mapping[str, Mapping[str, str | None]] | None = None):
        done = run_reader(simulated(machine, changes))
        assert done.returncode == 0, done.stderr
        return codec.from_json(GpuReport, done.stdout)

    return report


@pytest.mark.parametrize("machine", ["h100-8x", "rtx4090-1x", "rtx3090-2x-nvlink", "a100-mig"])
def test_every_gpu_is_read_as_described(read: Read, machine: str) -> None:
    text = driver.find(machine).read_text()
    described = description.gpus(text)
    report = read(machine)
    assert report.failure is None
    assert report.lost == ()
    assert report.driver_version == description.machine(text).get("driver_version")
    assert len(report.gpus) == len(described)
    for gpu, wanted in zip(report.gpus, described, strict=True):
        assert gpu.index == wanted.index
        assert gpu.uuid == wanted.get("uuid")
        assert gpu.name == wanted.get("name")
        assert gpu.pci_bus_id == wanted.get("pci_bus_id")
        assert f"{gpu.memory_bytes >> 20} MiB" == wanted.get("memory_total")
        assert gpu.compute_capability == version(wanted.get("compute_capability"))
        assert gpu.mig_uuids == tuple(mig.get("uuid") for mig in wanted.migs)


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


@pytest.mark.parametrize("machine", ["h100-8x", "rtx4090-1x"])
def test_the_highest_cuda_version_is_read(read: Read, machine: str) -> None:
    described = description.machine(driver.find(machine).read_text())
    assert read(machine).cuda_version == version(described.get("cuda_version"))


@pytest.mark.parametrize(
    ("machine", "enabled"),
    [("a100-mig", True), ("h100-8x", False), ("rtx4090-1x", None)],  # None: knows nothing of MIG
)
def test_mig_mode(read: Read, machine: str, enabled: bool | None) -> None:
    assert {gpu.mig_enabled for gpu in read(machine).gpus} == {enabled}


def test_every_instance_has_its_own_memory_and_processes(read: Read) -> None:
    busy = {"gpu 0 mig 1": {"process": "pid 7, memory 1 GiB"}}
    (gpu,) = read("a100-mig", busy).gpus
    free = [(mig.memory_free or 0) >> 20 for mig in gpu.mig_devices]
    assert free == [19968 - 14366, 19968 - 9826, 19968 - 13]
    assert [mig.processes for mig in gpu.mig_devices] == [0, 1, 0]
    assert [mig.profile for mig in gpu.mig_devices] == ["2g.20gb"] * 3


def test_mig_without_instances(read: Read) -> None:
    report = read("h100-8x", {"gpu 0": {"mig_mode": "enabled"}})
    assert report.gpus[0].mig_enabled
    assert report.gpus[0].mig_uuids == ()
    assert not report.gpus[1].mig_enabled


def test_what_the_driver_keeps_to_itself_is_not_used(read: Read) -> None:
    gpu = read("h100-8x").gpus[0]
    assert (gpu.memory_used, gpu.memory_reserved) == (1 << 20, 521 << 20)
    assert gpu.memory_free == (81559 - 522) << 20


@pytest.mark.parametrize("machine", ["h100-8x", "a100-mig"])
def test_a_driver_before_510_counts_what_it_keeps_as_used(read: Read, machine: str) -> None:
    now = read(machine).gpus[0]
    old = read(machine, {"faults": {"nvmlDeviceGetMemoryInfo_v2": "return 13"}}).gpus[0]
    assert (old.memory_bytes, old.memory_free) == (now.memory_bytes, now.memory_free)
    assert old.memory_reserved is None
    assert old.memory_used == now.memory_used + now.memory_reserved


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetMemoryInfo", "memory_bytes"),
        ("nvmlDeviceGetCudaComputeCapability", "compute_capability"),
        ("nvmlDeviceGetMigMode", "mig_enabled"),
    ],
)
@pytest.mark.parametrize("code", [3, 13])  # not supported; the driver lacks the symbol
def test_a_missing_field_is_none(read: Read, function: str, field: str, code: int) -> None:
    first, *others = read("h100-8x", {"faults": {f"{function} gpu 0": f"return {code}"}}).gpus
    assert getattr(first, field) is None
    assert None not in {getattr(gpu, field) for gpu in others}


@pytest.mark.parametrize("key", ["name", "uuid"])
def test_a_text_that_is_none(simulated, tmp_path: Path, key: str) -> None:
    """A damaged infoROM: the name is left out; without a UUID nobody can name the GPU."""
    own = {"gpu 3": {key: "GPU-broken"}}
    path = driver.vary("h100-8x", own, tmp_path / "damaged.machine")
    path.write_bytes(path.read_bytes().replace(b"GPU-broken", b"GPU-\xff\xfe"))
    done = run_reader(simulated(path))
    assert done.returncode == 0, done.stderr
    report = codec.from_json(GpuReport, done.stdout)
    if key == "name":
        assert [gpu.name == "NVIDIA GPU" for gpu in report.gpus] == [at == 3 for at in range(8)]
        assert not report.lost
    else:
        assert [gpu.index for gpu in report.gpus] == [0, 1, 2, 4, 5, 6, 7]
        assert [(one.index, one.error) for one in report.lost] == [(3, "its UUID is no text")]


def test_an_instance_whose_uuid_is_no_text(simulated, tmp_path: Path) -> None:
    path = tmp_path / "damaged.machine"
    text = driver.find("a100-mig").read_bytes()
    path.write_bytes(text.replace(b"MIG-3d4db13e", b"MIG-\xff\xfe"))
    done = run_reader(simulated(path))
    assert done.returncode == 0, done.stderr
    (gpu,) = codec.from_json(GpuReport, done.stdout).gpus
    assert [mig.gpu_instance for mig in gpu.mig_devices] == [3, 6]
    assert gpu.mig_fault == 14


@pytest.mark.parametrize(
    "function", ["nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion"]
)
def test_a_driver_that_does_not_say_its_version(read: Read, function: str) -> None:
    report = read("h100-8x", {"faults": {function: "return 3"}})
    assert report.failure is None
    assert None in (report.driver_version, report.cuda_version)


@pytest.mark.parametrize(
    ("state", "code"), [("lost", 15), ("lost-after-handle", 15), ("no-permission", 4)]
)
def test_a_lost_gpu_hides_none_of_its_siblings(read: Read, state: str, code: int) -> None:
    report = read("h100-8x", {"gpu 3": {"state": state}})
    assert [gpu.index for gpu in report.gpus] == [0, 1, 2, 4, 5, 6, 7]
    (lost,) = report.lost
    assert (lost.index, lost.code) == (3, code)
    assert lost.error
    assert report.failure is None


def test_every_gpu_is_lost(read: Read) -> None:
    report = read("rtx3090-2x-nvlink", {"gpu 0": {"state": "lost"}, "gpu 1": {"state": "lost"}})
    assert report.gpus == ()
    assert [lost.index for lost in report.lost] == [0, 1]


@pytest.mark.parametrize("code", [4, 9, 17, 18, 999])
def test_nvml_that_does_not_start_is_a_failure_with_its_code(read: Read, code: int) -> None:
    failure = read("rtx4090-1x", {"faults": {"nvmlInit": f"return {code}"}}).failure
    assert failure is not None
    assert (failure.kind, failure.code) == ("nvml", code)
    assert failure.reason


def test_nvml_that_fails_later_is_a_failure_too(read: Read) -> None:
    failure = read("rtx4090-1x", {"faults": {"nvmlDeviceGetCount": "return 999"}}).failure
    assert (failure.kind, failure.code) == ("nvml", 999)


def test_a_machine_of_no_gpus(read: Read, tmp_path: Path) -> None:
    text = driver.find("rtx4090-1x").read_text()
    path = tmp_path / "none.machine"
    path.write_text(description.select(text, {}))
    report = read(str(path))
    assert (report.gpus, report.lost, report.failure) == ((), (), None)


def test_a_library_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").touch()
    done = run_reader({"LD_LIBRARY_PATH": str(tmp_path)})
    failure = codec.from_json(GpuReport, done.stdout).failure
    assert failure == DriverFailure("library", f"{tmp_path}/libnvidia-ml.so.1: file too short")


def test_a_library_that_crashes_takes_its_process_along(simulated) -> None:
    # The caller's part (test_init, test_box) is to live on.
    assert run_reader(simulated("crash-init")).returncode < 0
