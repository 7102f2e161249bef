"""guest/cuda.py on the simulated driver, and on libraries that are none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sim import driver

CUDA = Path(__file__).parents[3] / "launcher" / "guest" / "cuda.py"


def try_cuda(environ: dict[str, str], *arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-I", "-S", CUDA, *arguments],
        env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def compile_library(path: Path, source: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    command = ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True)
    return path


def test_a_healthy_machine(simulated) -> None:
    answer = try_cuda(simulated("h100-8x"))
    assert answer["outcome"] == "ok"
    assert answer["library"] == str(driver.CACHE / "libcuda.so.1")
    assert answer["driver_version"] == 12070
    assert [device["index"] for device in answer["devices"]] == list(range(8))
    text = driver.find("h100-8x").read_text()
    for device in answer["devices"]:
        assert device["name"] == "NVIDIA H100 80GB HBM3"
        assert device["capability"] == [9, 0]
        assert device["uuid"].startswith("GPU-")
        assert device["uuid"] in text


def test_a_mig_instance_has_its_own_uuid(simulated) -> None:
    (device,) = try_cuda(simulated("a100-mig"))["devices"]
    assert device["uuid"].startswith("MIG-")
    assert device["uuid"] in driver.find("a100-mig").read_text()


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (3, "CUDA_ERROR_NOT_INITIALIZED"),
        (34, "CUDA_ERROR_STUB_LIBRARY"),
        (46, "CUDA_ERROR_DEVICE_UNAVAILABLE"),
        (100, "CUDA_ERROR_NO_DEVICE"),
        (802, "CUDA_ERROR_SYSTEM_NOT_READY"),
        (803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        (804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE"),
        (805, "CUDA_ERROR_MPS_CONNECTION_FAILED"),
        (999, "CUDA_ERROR_UNKNOWN"),
    ],
)
def test_a_code_of_cuinit_has_its_name_and_the_drivers_words(simulated, code, name) -> None:
    answer = try_cuda(simulated("h100-8x", {"faults": {"cuInit": f"return {code}"}}))
    assert (answer["outcome"], answer["code"], answer["name"]) == ("error", code, name)
    assert answer["reason"].startswith("cuInit: ")
    assert name not in answer["reason"]  # words, as cuGetErrorString has them
    assert answer["library"].endswith("libcuda.so.1")


def test_a_failure_after_cuinit_names_the_function(simulated) -> None:
    answer = try_cuda(simulated("h100-8x", {"faults": {"cuDeviceGetCount": "return 999"}}))
    assert (answer["code"], answer["reason"]) == (999, "cuDeviceGetCount: unknown error")


def test_one_device_that_tells_nothing_hides_none_of_the_others(simulated) -> None:
    faults = {"cuDeviceGet gpu 3": "return 101", "cuDeviceGetName gpu 5": "return 999"}
    devices = try_cuda(simulated("h100-8x", {"faults": faults}))["devices"]
    assert [device["index"] for device in devices if device["uuid"] is None] == [3]
    assert [device["index"] for device in devices if device["name"] is None] == [3, 5]


def test_a_library_that_names_no_error_still_gives_the_name(tmp_path: Path) -> None:
    functions = ("cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString")
    source = "".join(f"int {name}(void) {{ return 34; }}\n" for name in functions)
    library = compile_library(tmp_path / "libcuda.so.1", source)
    answer = try_cuda({}, str(library))
    assert (answer["code"], answer["name"]) == (34, "CUDA_ERROR_STUB_LIBRARY")
    assert answer["library"] == os.path.realpath(library)
    assert answer["driver_version"] is None


def test_an_old_library_has_one_function_for_uuids(tmp_path: Path) -> None:
    source = """
#include <string.h>
int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { return *version = 10020, 0; }
int cuDeviceGetCount(int *count) { return *count = 1, 0; }
int cuDeviceGet(int *device, int index) { return *device = index, 0; }
int cuDeviceGetName(char *name, int size, int device) { return strcpy(name, "Tesla V100"), 0; }
int cuDeviceGetUuid(char *uuid, int device) { return memset(uuid, 0xAB, 16), 0; }
int cuDeviceGetAttribute(int *value, int number, int device) { return *value = 7, 0; }
"""
    answer = try_cuda({}, str(compile_library(tmp_path / "libcuda.so.1", source)))
    (device,) = answer["devices"]
    assert device["uuid"] == "GPU-abababab-abab-abab-abab-abababababab"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot open shared object file: No such file or directory"),
        (b"", "file too short"),
        (b"no library at all" * 100, "invalid ELF header"),
    ],
)
def test_the_loaders_own_words(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "libcuda.so.1").write_bytes(content)
    answer = try_cuda({"LD_LIBRARY_PATH": str(tmp_path)})
    assert answer["outcome"] == "library"
    assert "libcuda.so.1" in answer["reason"]
    assert words in answer["reason"]


def test_a_library_that_is_no_libcuda(tmp_path: Path) -> None:
    library = compile_library(tmp_path / "libcuda.so.1", "int other;")
    answer = try_cuda({}, str(library))
    assert answer["outcome"] == "library"
    assert "undefined symbol: cuInit" in answer["reason"]


def test_no_context_is_opened(simulated) -> None:
    contexts = ("cuDevicePrimaryCtxRetain", "cuCtxCreate")
    faults = dict.fromkeys(contexts, "crash")
    assert try_cuda(simulated("h100-8x", {"faults": faults}))["outcome"] == "ok"
