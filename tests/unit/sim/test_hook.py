"""What the container hook would inject, without a container; tests/container has the containers."""

from __future__ import annotations

import importlib.util
import subprocess
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from sim import description, driver, host_files, nvidia_smi

H100 = driver.find("h100-8x").read_text()
A100_MIG = driver.find("a100-mig").read_text()
UUID = description.gpus(H100)[5].get("uuid")
MIG_UUID = description.gpus(A100_MIG)[0].migs[1].get("uuid")
EVERY = dict.fromkeys(range(8))
LEGACY = {"CUDA_VERSION": "9.0"}


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_loader("hook", SourceFileLoader("hook", str(driver.HOOK)))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ("all", EVERY),
        ("none", {}),
        ("void", None),
        ("", None),
        ("0,void", None),
        ("3", {3: None}),
        ("7,2", {7: None, 2: None}),
        (UUID, {5: None}),
        (f"{UUID},0", {5: None, 0: None}),
    ],
)
def test_visible_devices(
    hook: ModuleType, asked: str, chosen: dict[int, list[int] | None] | None
) -> None:
    env = {"NVIDIA_VISIBLE_DEVICES": asked}
    assert hook.visible_gpus(env, description.gpus(H100)) == chosen


@pytest.mark.parametrize(
    ("asked", "migs"), [("all", None), ("0", None), (MIG_UUID, [1]), ("0:2,0:0", [2, 0])]
)
def test_visible_mig_instances(hook: ModuleType, asked: str, migs: list[int] | None) -> None:
    env = {"NVIDIA_VISIBLE_DEVICES": asked}
    assert hook.visible_gpus(env, description.gpus(A100_MIG)) == {0: migs}


def test_unset_means_nothing_but_in_old_cuda_images(hook: ModuleType) -> None:
    gpus = description.gpus(H100)
    assert hook.visible_gpus({}, gpus) is None
    assert hook.visible_gpus(LEGACY, gpus) == EVERY
    assert hook.visible_gpus(LEGACY | {"NVIDIA_REQUIRE_CUDA": "cuda>=12.4"}, gpus) is None


@pytest.mark.parametrize("asked", ["8", "GPU-nobody", "0:0"])
def test_an_unknown_device_stops_the_container(hook: ModuleType, asked: str) -> None:
    with pytest.raises(SystemExit, match="unknown device"):
        hook.visible_gpus({"NVIDIA_VISIBLE_DEVICES": asked}, description.gpus(H100))


@pytest.mark.parametrize(
    ("env", "wanted"),
    [
        ({}, {"utility", "compute"}),
        ({"NVIDIA_DRIVER_CAPABILITIES": ""}, {"utility", "compute"}),
        ({"NVIDIA_DRIVER_CAPABILITIES": "utility"}, {"utility"}),
        ({"NVIDIA_DRIVER_CAPABILITIES": "compute"}, {"compute"}),
        ({"NVIDIA_DRIVER_CAPABILITIES": "compute,video"}, {"compute", "video"}),
    ],
)
def test_capabilities(hook: ModuleType, env: dict[str, str], wanted: set[str]) -> None:
    assert hook.capabilities(env) == wanted


def test_all_capabilities_include_both_libraries(hook: ModuleType) -> None:
    wanted = hook.capabilities({"NVIDIA_DRIVER_CAPABILITIES": "all"})
    assert wanted == hook.capabilities(LEGACY)
    assert set(hook.LIBRARY_OF) <= wanted


def test_an_unknown_capability_stops_the_container(hook: ModuleType) -> None:
    with pytest.raises(SystemExit, match="unsupported capabilities"):
        hook.capabilities({"NVIDIA_DRIVER_CAPABILITIES": "compute,flying"})


def test_an_unknown_machine_is_named(hook: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no machine 'moon'"):
        hook.find_machine({"NVSIM_CONTAINER_MACHINE": "moon"})


def test_the_host_files_of_a_machine(tmp_path: Path) -> None:
    machine = description.edit(H100, {"machine": {"kernel_module_version": "560.35.03"}})
    host_files.write_proc(tmp_path / "proc", description.select(machine, {4: None}))
    assert " 560.35.03 " in (tmp_path / "proc/nvidia/version").read_text()
    (folder,) = (tmp_path / "proc/nvidia/gpus").iterdir()
    assert folder.name == "0000:9a:00.0"
    host_files.write_pci(tmp_path / "pci", machine)
    kinds = [(path / "class").read_text() for path in (tmp_path / "pci").iterdir()]
    assert (kinds.count("0x030200\n"), kinds.count("0x068000\n")) == (8, 4)
    gpu = tmp_path / "pci/0000:9a:00.0"
    assert (gpu / "numa_node").read_text() == "1\n"
    assert (gpu / "device").read_text() == "0x2330\n"
    assert (gpu / "local_cpulist").read_text() == "52-103,156-207\n"


def test_the_nvidia_smi_stand_in(tmp_path: Path) -> None:
    nvidia_smi.write(tmp_path / "nvidia-smi", A100_MIG)
    listing = subprocess.run(
        [tmp_path / "nvidia-smi", "-L"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listing[0].startswith("GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-")
    assert listing[2] == f"  MIG 2g.20gb     Device  1: (UUID: {MIG_UUID})"
