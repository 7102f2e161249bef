"""The simulated driver is a driver: NVIDIA's bindings and other people's tools run on it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sim import description, driver

ALL = sorted(path.stem for path in driver.MACHINES.glob("*.machine"))


@pytest.fixture(scope="module")
def lib() -> Path:
    return driver.build(driver.CACHE)


# ---- descriptions ----


@pytest.mark.parametrize("machine", ALL)
def test_every_named_machine_is_a_description(lib: Path, machine: str) -> None:
    driver.check(lib, machine)


@pytest.mark.parametrize(
    ("lines", "line", "why"),
    [
        ("name = H100", 1, "before any section"),
        ("[gpu 1]", 1, r"expected \[gpu 0\]"),
        ("[gpu 0]\nnamee = H100", 2, "unknown key 'namee'"),
        ("[gpu 0]\nname = a\nname = b", 3, "given twice"),
        ("[gpu 0]\nmemory_total = 80", 2, "number with its unit"),
        ("[gpu 0]\nmemory_total = 80 GB", 2, "number with its unit"),
        ("[gpu 0]\nmemory_total = -1 MiB", 2, "number with its unit"),
        ("[gpu 0]\npci_bus_id = 18:00.0", 2, "not like 00000000:18:00.0"),
        ("[gpu 0]\nmig_mode = maybe", 2, "none of disabled|enabled"),
        ("[gpu 0]\ncpu_affinity = 3-1", 2, "no list like"),
        ("[gpu 0]\nminor_number = one", 2, "not a number"),
        ("[gpu 0]\nnvlink 36 = enabled", 2, "up to 35"),
        ("[gpu 0]\nnvlink 0 = enabled, router", 2, "cannot read 'router'"),
        ("[gpu 0]\nnvlink 0 = gpu 1", 2, "cannot read '1'"),
        ("[gpu 0]\nprocess = memory 1 MiB", 2, "no pid"),
        ("[gpu 0]\n[gpu 1 mig 0]", 2, "follows the section of its GPU"),
        ("[gpu 0]\n\n[pcie]\n0 = SYS", 4, "diagonal"),
        ("[gpu 0]\n[gpu 1]\n[pcie]\n0 = X SYS\n1 = PIX X", 5, "not so in row 0"),
        ("[gpu 0]\n[gpu 1]\n[pcie]\n0 = X NEAR", 4, "unknown word 'NEAR'"),
        ("[gpu 0]\n[gpu 1]\n[p2p read]\n0 = X OK\n# that is all", 5, "ends after 1 rows"),
        ("[p2p faster]", 1, "unknown section"),
        ("[gpu 0]\n[faults]\nnvmlInit = explode", 3, "cannot read 'explode'"),
        ("[gpu 0]\n[faults]\nnvmlInit gpu 1 = crash", 3, "GPU above"),
        ("[faults]\nnvmlDeviceGetNam = hang", 2, "neither library has a function"),
        ("[machine]\nno equals sign", 2, "expected 'key = value'"),
    ],
)
def test_nonsense_is_refused_with_its_line(
    lib: Path, tmp_path: Path, lines: str, line: int, why: str
) -> None:
    path = tmp_path / "wrong.machine"
    path.write_text(lines + "\n")
    with pytest.raises(driver.DescriptionError, match=rf"{re.escape(str(path))}:{line}: .*{why}"):
        driver.check(lib, path)


def test_selecting_gpus_renumbers_them_everywhere(lib: Path, tmp_path: Path) -> None:
    text = driver.find("dgx1-v100-8x").read_text()
    text = description.edit(text, {"faults": {"cuInit gpu 4": "crash", "cuInit gpu 2": "hang"}})
    text += "[events]\nxid = 79, gpu 4\nxid = 13, gpu 2\n"
    path = tmp_path / "part.machine"
    path.write_text(description.select(text, {4: None, 0: None}))
    driver.check(lib, path)
    old, new = description.gpus(text), description.gpus(path.read_text())
    assert [gpu.get("uuid") for gpu in new] == [old[0].get("uuid"), old[4].get("uuid")]
    sections = {section.name: section.lines for section in description.parse(path.read_text())}
    assert sections["pcie"] == [("0", "X SYS"), ("1", "SYS X")]
    assert sections["p2p nvlink"] == [("0", "X OK"), ("1", "OK X")]
    assert sections["faults"] == [("cuInit gpu 1", "crash")]
    assert sections["events"] == [("xid", "79, gpu 1")]


def test_one_build_at_a_time_and_only_when_stale(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(driver.build, [tmp_path] * 4))
    library = tmp_path / "libcuda.so.1"
    built = library.stat().st_mtime_ns
    driver.build(tmp_path)
    assert library.stat().st_mtime_ns == built


# ---- faults ----

INIT = "from pynvml import *; nvmlInit(); nvmlDeviceGetName(nvmlDeviceGetHandleByIndex(1))"


def suffer(lib: Path, tmp_path: Path, faults: Mapping[str, str], **options: Any) -> Any:
    machine = driver.vary("h100-8x", {"faults": faults}, tmp_path / "faulty.machine")
    return subprocess.run(
        [sys.executable, "-c", INIT],
        env=driver.environment(lib, machine),
        capture_output=True,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"nvmlInit": "return 18"}, "NVMLError_LibRmVersionMismatch"),
        ({"nvmlInit": "return 999"}, "NVMLError_Unknown"),
        ({"nvmlInitWithFlags": "return 9"}, "NVMLError_DriverNotLoaded"),
        ({"nvmlInit": "return 17"}, "NVMLError_OperatingSystem"),
        ({"nvmlDeviceGetHandleByIndex gpu 1": "return 999"}, "NVMLError_Unknown"),
        ({"nvmlDeviceGetName": "delay 1 ms, return 3"}, "NVMLError_NotSupported"),
    ],
)
def test_a_fault_is_the_exception_of_pynvml(
    lib: Path, tmp_path: Path, fault: dict[str, str], error: str
) -> None:
    assert error in suffer(lib, tmp_path, fault).stderr


def test_a_fault_on_another_gpu_is_not_felt(lib: Path, tmp_path: Path) -> None:
    assert suffer(lib, tmp_path, {"nvmlDeviceGetName gpu 2": "crash"}).returncode == 0


def test_a_crash_takes_the_process_along(lib: Path, tmp_path: Path) -> None:
    assert suffer(lib, tmp_path, {"nvmlInit": "crash"}).returncode == -signal.SIGSEGV


def test_a_delay_is_as_long_as_asked(lib: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    assert suffer(lib, tmp_path, {"nvmlDeviceGetName gpu 1": "delay 700 ms"}).returncode == 0
    assert time.monotonic() - start >= 0.7


def test_a_hang_lasts_until_it_is_killed(lib: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        suffer(lib, tmp_path, {"nvmlInit": "hang"}, timeout=1)


# ---- other people's programs ----


@pytest.mark.parametrize("machine", ["h100-8x", "a100-mig", "h100-8x-one-lost"])
@pytest.mark.parametrize("program", ["gpustat", "nvitop"])
def test_monitors_show_the_machine(lib: Path, program: str, machine: str) -> None:
    command = {
        "gpustat": ("gpustat", "--show-all", "--no-color"),
        "nvitop": ("nvitop", "--once", "--no-unicode"),
    }[program]
    shown = subprocess.run(
        [sys.executable, "-m", *command],
        env=driver.environment(lib, machine),
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    text = driver.find(machine).read_text()
    assert description.machine(text).get("driver_version") in shown.stdout
    gpus = [gpu for gpu in description.gpus(text) if gpu.get("state") != "lost"]
    name = gpus[0].get("name").removeprefix("NVIDIA ")
    assert shown.stdout.count(name) == len(gpus)
    assert shown.stdout.lower().count("gpu is lost") == len(description.gpus(text)) - len(gpus)
