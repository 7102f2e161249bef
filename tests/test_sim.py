"""The simulated driver is a driver: NVIDIA's bindings and other people's tools run on it."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import pytest

from tests.sim import description, driver, host_files

HEALTHY = ("h100-8x", "dgx1-v100-8x", "a10g-4x", "rtx4090-1x", "rtx3090-2x-nvlink", "a100-mig")
ALL = sorted(path.stem for path in driver.MACHINES.glob("*.machine"))

PREAMBLE = """
import json, sys
from pynvml import *
def code_of(call, *arguments):
    try:
        return call(*arguments)
    except NVMLError as error:
        return -error.value
def gpus():
    return [nvmlDeviceGetHandleByIndex(i) for i in range(nvmlDeviceGetCount())]
"""

Nvml = Callable[..., Any]


@pytest.fixture(scope="module")
def lib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driver.build(tmp_path_factory.mktemp("sim"))


@pytest.fixture()
def nvml(lib: Path, tmp_path: Path) -> Nvml:
    """Evaluate a pynvml expression on a machine, in a child process."""

    def evaluate(machine: str, expression: str, changes: Mapping[str, Any] | None = None) -> Any:
        described: str | Path = machine
        if changes:
            described = driver.vary(machine, changes, tmp_path / "varied.machine")
        code = f"{PREAMBLE}\nnvmlInit()\nprint(json.dumps({expression}))"
        env = driver.environment(lib, described)
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


def run(lib: Path, machine: str | Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=driver.environment(lib, machine) | env, capture_output=True, text=True
    )


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
    path = tmp_path / "part.machine"
    path.write_text(description.select(text, {4: None, 0: None}))
    driver.check(lib, path)
    old, new = description.gpus(text), description.gpus(path.read_text())
    assert [gpu.get("uuid") for gpu in new] == [old[0].get("uuid"), old[4].get("uuid")]
    sections = {section.name: section.lines for section in description.parse(path.read_text())}
    assert sections["pcie"] == [("0", "X SYS"), ("1", "SYS X")]
    assert sections["p2p nvlink"] == [("0", "X OK"), ("1", "OK X")]
    assert sections["faults"] == [("cuInit gpu 1", "crash")]


def test_one_build_at_a_time_and_only_when_stale(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(driver.build, [tmp_path] * 4))
    library = tmp_path / "libcuda.so.1"
    built = library.stat().st_mtime_ns
    driver.build(tmp_path)
    assert library.stat().st_mtime_ns == built


# ---- NVML ----


@pytest.mark.parametrize("machine", HEALTHY)
def test_pynvml_reads_what_the_machine_says(nvml: Nvml, machine: str) -> None:
    text = driver.find(machine).read_text()
    about = description.machine(text)
    seen = nvml(
        machine,
        """[nvmlSystemGetDriverVersion(), nvmlSystemGetCudaDriverVersion_v2(), [[
            nvmlDeviceGetName(g), nvmlDeviceGetUUID(g), nvmlDeviceGetPciInfo(g).busId,
            str(nvmlDeviceGetMinorNumber(g)),
            "%d MiB" % (nvmlDeviceGetMemoryInfo(g).total >> 20),
            "%d.%d" % nvmlDeviceGetCudaComputeCapability(g)] for g in gpus()]]""",
    )
    major, minor = map(int, about.get("cuda_version").split("."))
    keys = ("name", "uuid", "pci_bus_id", "minor_number", "memory_total", "compute_capability")
    expected = [[gpu.get(key) for key in keys] for gpu in description.gpus(text)]
    assert seen == [about.get("driver_version"), 1000 * major + 10 * minor, expected]


def test_structs_have_the_layout_of_the_bindings(nvml: Nvml) -> None:
    seen = nvml(
        "h100-8x",
        """(lambda g, f: [nvmlDeviceGetMemoryInfo(g, nvmlMemory_v2).reserved >> 20,
            nvmlDeviceGetUtilizationRates(g).memory, nvmlDeviceGetBAR1MemoryInfo(g).bar1Used >> 20,
            nvmlDeviceGetTemperatureV(g, 0), [[p.pid, p.usedGpuMemory] for p in
            nvmlDeviceGetComputeRunningProcesses(g)], nvmlDeviceGetGpuFabricInfoV(g, byref(f)) or
            [f.state, f.cliqueId, bytes(f.clusterUuid).hex(), f.healthMask],
            [[v.nvmlReturn, v.value.uiVal] for v in nvmlDeviceGetFieldValues(g, [
                NVML_FI_DEV_NVLINK_LINK_COUNT, (NVML_FI_DEV_NVLINK_GET_STATE, 17), 1])]]
        )(gpus()[0], c_nvmlGpuFabricInfo_v3_t())""",
        {
            "gpu 0": {
                "process": "pid 77, memory 3 MiB",
                "utilization_memory": "9 %",
                "fabric_cluster_uuid": "00112233-4455-6677-8899-aabbccddeeff",
                "fabric_clique_id": "7",
                "fabric_health_mask": "0x15",
            }
        },
    )
    fabric = [3, 7, "00112233445566778899aabbccddeeff", 0x15]
    fields = [[0, 18], [0, 1], [3, 0]]
    assert seen == [521, 9, 1, 30, [[77, 3 << 20]], fabric, fields]


def test_nvlinks_lead_to_switches_or_to_peers(nvml: Nvml) -> None:
    remotes = """[[nvmlDeviceGetNvLinkRemotePciInfo(g, l).busId for l in range(NVML_NVLINK_MAX_LINKS)
        if code_of(nvmlDeviceGetNvLinkState, g, l) == 1] for g in gpus()]"""
    assert [len(links) for links in nvml("h100-8x", remotes)] == [18] * 8
    assert {len(set(links)) for links in nvml("h100-8x", remotes)} == {4}
    cube = nvml("dgx1-v100-8x", remotes)
    bus_ids = [gpu.get("pci_bus_id") for gpu in description.gpus(driver.find("dgx1-v100-8x").read_text())]
    # The first row of `nvidia-smi topo -m` on a DGX-1: X NV1 NV1 NV2 NV2 SYS SYS SYS.
    assert [cube[0].count(peer) for peer in bus_ids] == [0, 1, 1, 2, 2, 0, 0, 0]
    assert all(
        cube[one].count(bus_ids[two]) == cube[two].count(bus_ids[one])
        for one in range(8)
        for two in range(8)
    )


def words(bits: set[int], count: int) -> list[str]:
    mask = sum(1 << bit for bit in bits)
    return [f"{mask >> 64 * word & (1 << 64) - 1:x}" for word in range(count)]


def test_pairs_affinity_and_what_is_missing(nvml: Nvml) -> None:
    seen = nvml(
        "dgx1-v100-8x",
        """(lambda g: [
            [nvmlDeviceGetTopologyCommonAncestor(g[0], peer) for peer in g[1:]],
            [nvmlDeviceGetP2PStatus(g[0], peer, NVML_P2P_CAPS_INDEX_NVLINK) for peer in g[1:]],
            code_of(nvmlDeviceGetP2PStatus, g[0], g[1], NVML_P2P_CAPS_INDEX_PROP),
            ["%x" % word for word in nvmlDeviceGetCpuAffinity(g[4], 2)],
            list(nvmlDeviceGetMemoryAffinity(g[4], 4, 0)),
            len(nvmlDeviceGetTopologyNearestGpus(g[0], NVML_TOPOLOGY_HOSTBRIDGE)),
            code_of(nvmlDeviceGetMigMode, g[0]), code_of(nvmlDeviceGetRemappedRows, g[0])])(gpus())""",
    )
    not_supported = -3
    assert seen == [
        [10, 30, 30, 50, 50, 50, 50],
        [0, 0, 0, 0, 5, 5, 5],
        not_supported,
        words({*range(20, 40), *range(60, 80)}, 2),
        [2, 0, 0, 0],
        2,
        not_supported,
        not_supported,
    ]


def test_wrong_arguments_get_the_codes_of_the_real_library(nvml: Nvml) -> None:
    seen = nvml(
        "h100-8x",
        """(lambda g: [code_of(nvmlDeviceGetHandleByIndex, 8),
            code_of(nvmlDeviceGetHandleByUUID, "GPU-none"), code_of(nvmlDeviceGetName, c_nvmlDevice_t()),
            code_of(nvmlDeviceGetMemoryInfo, g, nvmlMemory_v2 + 1), code_of(nvmlDeviceGetNvLinkState, g, 18),
            nvmlLib.nvmlDeviceGetName(g, create_string_buffer(8), 8),
            nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId("0000:db:00.0")),
            nvmlShutdown() or code_of(nvmlDeviceGetCount)])(gpus()[0])""".replace(
            "nvmlLib", "__import__('ctypes').CDLL('libnvidia-ml.so.1')"
        ),
    )
    assert seen == [-2, -6, -2, -25, -2, 7, 7, -1]


@pytest.mark.parametrize(
    ("state", "handle", "name"),
    [("lost", -15, None), ("lost-after-handle", 0, -15), ("no-permission", -4, None)],
)
def test_a_bad_gpu_is_counted_and_its_siblings_answer(
    nvml: Nvml, state: str, handle: int, name: int | None
) -> None:
    seen = nvml(
        "h100-8x",
        """[[h if isinstance(h, int) else 0, None if isinstance(h, int) else code_of(nvmlDeviceGetName, h)]
            for h in (code_of(nvmlDeviceGetHandleByIndex, i) for i in range(nvmlDeviceGetCount()))]""",
        {"gpu 3": {"state": state}},
    )
    healthy = [0, "NVIDIA H100 80GB HBM3"]
    assert seen == [healthy] * 3 + [[handle, name]] + [healthy] * 4


def test_mig_instances(nvml: Nvml) -> None:
    seen = nvml(
        "a100-mig",
        """(lambda g: [nvmlDeviceGetMigMode(g), [[nvmlDeviceGetUUID(m), nvmlDeviceGetGpuInstanceId(m),
            nvmlDeviceGetAttributes(m).multiprocessorCount, nvmlDeviceIsMigDeviceHandle(m),
            nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m)) == nvmlDeviceGetUUID(g)]
            for m in (nvmlDeviceGetMigDeviceHandleByIndex(g, i) for i in range(3))],
            code_of(nvmlDeviceGetMigDeviceHandleByIndex, g, 3), code_of(nvmlDeviceGetGpuInstanceId, g)]
        )(gpus()[0])""",
    )
    (gpu,) = description.gpus(driver.find("a100-mig").read_text())
    migs = [[m.get("uuid"), int(m.get("gpu_instance")), 28, 1, True] for m in gpu.migs]
    assert seen == [[1, 1], migs, -6, -2]


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
    shown = run(lib, machine, sys.executable, "-m", *command)
    assert shown.returncode == 0, shown.stderr
    text = driver.find(machine).read_text()
    assert description.machine(text).get("driver_version") in shown.stdout
    gpus = [gpu for gpu in description.gpus(text) if gpu.get("state") != "lost"]
    name = gpus[0].get("name").removeprefix("NVIDIA ")
    assert shown.stdout.count(name) == len(gpus)
    assert shown.stdout.lower().count("gpu is lost") == len(description.gpus(text)) - len(gpus)


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
    code, uuids = json.loads(run(lib, machine, sys.executable, "-c", CUDA, **env).stdout)
    gpus = description.gpus(driver.find(machine).read_text())
    devices = gpus[0].migs or gpus
    known = [device.get("uuid")[4:].replace("-", "") for device in devices]
    return code or [known.index(uuid) for uuid in uuids]


NO_DEVICE = 100
UUIDS = [gpu.get("uuid") for gpu in description.gpus(driver.find("a10g-4x").read_text())]
MIGS = [mig.get("uuid") for mig in description.gpus(driver.find("a100-mig").read_text())[0].migs]


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
    shown = run(lib, "h100-8x", sys.executable, "-c", code, CUDA_VISIBLE_DEVICES="5,1,8,2")
    assert json.loads(shown.stdout) == [5, 1]


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
        # All is well, as far as a driver that is not NVIDIA's gets (sim/README.md, "Where it ends").
        ({}, "3", "cudaErrorSoftwareValidityNotEstablished"),
    ],
)
def test_the_real_cuda_runtime_reports_what_happened(
    lib: Path, tmp_path: Path, changes: dict[str, dict[str, str]], mask: str, error: str
) -> None:
    machine = driver.vary("h100-8x", changes, tmp_path / "varied.machine")
    shown = run(lib, machine, sys.executable, "-c", RUNTIME, CUDA_VISIBLE_DEVICES=mask)
    assert shown.stdout.strip() == error, shown.stderr


# ---- the container hook ----

hook: Any = SourceFileLoader("nvsim_hook", str(driver.HOOK)).load_module()
