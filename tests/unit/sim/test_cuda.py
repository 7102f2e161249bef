"""What CUDA programs see of a simulated machine: masks, order, MIG, and NVIDIA's own runtime."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sim import description, driver


@pytest.fixture(scope="module")
def lib() -> Path:
    return driver.build(driver.CACHE)


def run(lib: Path, machine: str | Path, code: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=driver.environment(lib, machine) | env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


CUDA = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
code, count, uuids = cuda.cuInit(0), ctypes.c_int(), []
if not code:
    cuda.cuDeviceGetCount(ctypes.byref(count))
for device in range(count.value):
    uuid = (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGetUuid_v2(uuid, device)
    uuids.append(bytes(uuid).hex())
print(json.dumps([code, uuids]))
"""


def cuda_devices(lib: Path, machine: str | Path, mask: str | None, **env: str) -> list[int] | int:
    """Return the NVML indices of what CUDA enumerates, or the code of cuInit."""
    if mask is not None:
        env["CUDA_VISIBLE_DEVICES"] = mask
    code, uuids = json.loads(run(lib, machine, CUDA, **env))
    gpus = description.gpus(driver.find(machine).read_text())
    devices = gpus[0].migs or gpus
    known = [device.get("uuid")[4:].replace("-", "") for device in devices]
    return code or [known.index(uuid) for uuid in uuids]


NO_DEVICE = 100
UUIDS = [gpu.get("uuid") for gpu in description.gpus(driver.find("a10g-4x").read_text())]
A100 = description.gpus(driver.find("a100-mig").read_text())[0]
MIGS = [mig.get("uuid") for mig in A100.migs]


@pytest.mark.parametrize(
    ("mask", "devices"),
    [
        (None, [0, 1, 2, 3]),
        ("", NO_DEVICE),
        ("2,0", [2, 0]),
        ("0, 1", [0, 1]),
        ("0,2,-1,1", [0, 2]),
        ("0,9,1", [0]),
        ("7", NO_DEVICE),
        ("-1", NO_DEVICE),
        ("0,0", NO_DEVICE),
        ("1gpu2,2ampere", [1, 2]),
        ("NoDevFiles", NO_DEVICE),
        (UUIDS[3], [3]),
        (UUIDS[1][:12], [1]),
        ("GPU-", NO_DEVICE),
        (f"{UUIDS[2]},{UUIDS[0]}", [2, 0]),
        (f"{UUIDS[2]}, {UUIDS[0]}", [2]),
        (f"{UUIDS[2]},1", [2]),
        (f"{UUIDS[2]},{UUIDS[2]}", NO_DEVICE),
        ("GPU-12345678-0000-0000-0000-000000000000", NO_DEVICE),
    ],
)
def test_cuda_visible_devices(lib: Path, mask: str | None, devices: list[int] | int) -> None:
    assert cuda_devices(lib, "a10g-4x", mask, CUDA_DEVICE_ORDER="PCI_BUS_ID") == devices


def test_cuda_device_order(lib: Path, tmp_path: Path) -> None:
    mixed = driver.vary("a10g-4x", {"gpu 2": {"multiprocessors": "96"}}, tmp_path / "mixed.machine")
    assert cuda_devices(lib, mixed, "0,1") == [2, 0]
    assert cuda_devices(lib, mixed, "0,1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [0, 1]


def test_cuda_skips_a_lost_gpu(lib: Path) -> None:
    assert cuda_devices(lib, "h100-8x-one-lost", "2,3") == [2, 4]


@pytest.mark.parametrize(
    ("mask", "enumeration", "devices"),
    [
        (None, "one", [0]),
        ("0", "one", [0]),
        (MIGS[2], "one", [2]),
        (f"{MIGS[2]},{MIGS[1]}", "one", [2]),
        (f"{MIGS[2]},{MIGS[1]}", "per-gpu-instance", [2, 1]),
        (f"{MIGS[2]},{A100.get('uuid')}", "per-gpu-instance", [2]),
        (None, "per-gpu-instance", [0, 1, 2]),
    ],
)
def test_cuda_and_mig(
    lib: Path, tmp_path: Path, mask: str | None, enumeration: str, devices: list[int]
) -> None:
    changes = {"machine": {"mig_enumeration": enumeration}}
    machine = driver.vary("a100-mig", changes, tmp_path / "mig.machine")
    assert cuda_devices(lib, machine, mask) == devices


def test_nvitop_finds_the_devices_that_cuda_enumerates(lib: Path) -> None:
    code = "import nvitop; print([device.index for device in nvitop.Device.cuda.all()])"
    shown = run(lib, "h100-8x", code, CUDA_VISIBLE_DEVICES="5,1,8,2")
    assert json.loads(shown) == [5, 1]


RUNTIME = """
import ctypes, pathlib, nvidia.cuda_runtime as package
(library,) = (pathlib.Path(package.__path__[0]) / "lib").glob("libcudart.so.*")
runtime, count = ctypes.CDLL(str(library)), ctypes.c_int()
runtime.cudaGetErrorName.restype = ctypes.c_char_p
print(runtime.cudaGetErrorName(runtime.cudaGetDeviceCount(ctypes.byref(count))).decode())
"""


@pytest.mark.skipif(
    not importlib.util.find_spec("nvidia"), reason="nvidia-cuda-runtime-cu12 is not installed"
)
@pytest.mark.parametrize(
    ("changes", "mask", "error"),
    [
        ({"faults": {"cuInit": "return 802"}}, "0", "cudaErrorSystemNotReady"),
        ({"faults": {"cuInit": "return 803"}}, "0", "cudaErrorSystemDriverMismatch"),
        ({"faults": {"cuInit": "return 804"}}, "0", "cudaErrorCompatNotSupportedOnDevice"),
        ({"faults": {"cuInit": "return 999"}}, "0", "cudaErrorUnknown"),
        ({"faults": {"cuInit": "return 3"}}, "0", "cudaErrorInitializationError"),
        ({"machine": {"cuda_version": "11.4"}}, "0", "cudaErrorInsufficientDriver"),
        ({}, "", "cudaErrorNoDevice"),
        ({}, "8", "cudaErrorNoDevice"),
        # All is well, as far as a driver that is not NVIDIA's gets (README.md, "Where it ends").
        ({}, "3", "cudaErrorSoftwareValidityNotEstablished"),
    ],
)
def test_the_real_cuda_runtime_reports_what_happened(
    lib: Path, tmp_path: Path, changes: dict[str, dict[str, str]], mask: str, error: str
) -> None:
    machine = driver.vary("h100-8x", changes, tmp_path / "varied.machine")
    assert run(lib, machine, RUNTIME, CUDA_VISIBLE_DEVICES=mask).strip() == error


def test_a_fault_may_need_a_variable(lib: Path, tmp_path: Path) -> None:
    faults = {"faults": {"cuInit": "return 805, with CUDA_MPS_PIPE_DIRECTORY"}}
    machine = driver.vary("a10g-4x", faults, tmp_path / "mps.machine")
    assert cuda_devices(lib, machine, None) == [0, 1, 2, 3]
    assert cuda_devices(lib, machine, None, CUDA_MPS_PIPE_DIRECTORY="/tmp/nvidia-mps") == 805


def test_a_gpu_that_only_nvml_opens_is_not_counted(lib: Path, tmp_path: Path) -> None:
    changes = {"gpu 1": {"state": "no-cuda"}}
    machine = driver.vary("a10g-4x", changes, tmp_path / "partial.machine")
    assert cuda_devices(lib, machine, None) == [0, 2, 3]
