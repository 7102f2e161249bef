"""What pynvml reads from a simulated machine: values, layouts, codes, topology, MIG."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sim import description, driver

HEALTHY = ("h100-8x", "dgx1-v100-8x", "a10g-4x", "rtx4090-1x", "rtx3090-2x-nvlink", "a100-mig")
NOT_SUPPORTED = -3

PROGRAM = """
import ctypes, json
from pynvml import *

def code_of(call, *arguments):
    try:
        return call(*arguments)
    except NVMLError as error:
        return -error.value

nvmlInit()
handles = [code_of(nvmlDeviceGetHandleByIndex, index) for index in range(nvmlDeviceGetCount())]
first = handles[0]
{code}
print(json.dumps(seen))
"""

Nvml = Callable[..., Any]


@pytest.fixture
def nvml(tmp_path: Path) -> Nvml:
    """Run pynvml code on a machine, in a child process; return what it left in `seen`.

    It finds `handles` of all GPUs, the `first`, and `code_of`: a result, or minus an error's code.
    """

    def evaluate(
        machine: str, code: str, changes: Mapping[str, Mapping[str, str]] | None = None
    ) -> Any:
        varied = driver.vary(machine, changes or {}, tmp_path / "varied.machine")
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(code=textwrap.dedent(code))],
            env=driver.environment(driver.build(driver.CACHE), varied),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return evaluate


@pytest.mark.parametrize("machine", HEALTHY)
def test_pynvml_reads_what_the_machine_says(nvml: Nvml, machine: str) -> None:
    code = """
        seen = [nvmlSystemGetDriverVersion(), nvmlSystemGetCudaDriverVersion_v2()] + [
            [
                nvmlDeviceGetName(gpu),
                nvmlDeviceGetUUID(gpu),
                nvmlDeviceGetPciInfo(gpu).busId,
                str(nvmlDeviceGetMinorNumber(gpu)),
                "%d MiB" % (nvmlDeviceGetMemoryInfo(gpu).total >> 20),
                "%d.%d" % nvmlDeviceGetCudaComputeCapability(gpu),
            ]
            for gpu in handles
        ]
    """
    text = driver.find(machine).read_text()
    about = description.machine(text)
    major, minor = map(int, about.get("cuda_version").split("."))
    keys = ("name", "uuid", "pci_bus_id", "minor_number", "memory_total", "compute_capability")
    expected = [[gpu.get(key) for key in keys] for gpu in description.gpus(text)]
    head = [about.get("driver_version"), 1000 * major + 10 * minor]
    assert nvml(machine, code) == head + expected


def test_structs_have_the_layout_of_the_bindings(nvml: Nvml) -> None:
    code = """
        fabric = c_nvmlGpuFabricInfo_v3_t()
        nvmlDeviceGetGpuFabricInfoV(first, byref(fabric))
        fields = [NVML_FI_DEV_NVLINK_LINK_COUNT, (NVML_FI_DEV_NVLINK_GET_STATE, 17), 1]
        seen = {
            "memory": nvmlDeviceGetMemoryInfo(first, nvmlMemory_v2).reserved >> 20,
            "bar1": nvmlDeviceGetBAR1MemoryInfo(first).bar1Used >> 20,
            "utilization": nvmlDeviceGetUtilizationRates(first).memory,
            "temperature": nvmlDeviceGetTemperatureV(first, NVML_TEMPERATURE_GPU),
            "processes": [
                [process.pid, process.usedGpuMemory]
                for process in nvmlDeviceGetComputeRunningProcesses(first)
            ],
            "fabric": [fabric.state, fabric.cliqueId, fabric.healthMask],
            "cluster": bytes(fabric.clusterUuid).hex(),
            "fields": [
                [field.nvmlReturn, field.value.uiVal]
                for field in nvmlDeviceGetFieldValues(first, fields)
            ],
        }
    """
    changes = {
        "process": "pid 77, memory 3 MiB",
        "utilization_memory": "9 %",
        "fabric_cluster_uuid": "00112233-4455-6677-8899-aabbccddeeff",
        "fabric_clique_id": "7",
        "fabric_health_mask": "0x15",
    }
    assert nvml("h100-8x", code, {"gpu 0": changes}) == {
        "memory": 521,
        "bar1": 1,
        "utilization": 9,
        "temperature": 30,
        "processes": [[77, 3 << 20]],
        "fabric": [3, 7, 0x15],
        "cluster": "00112233445566778899aabbccddeeff",
        "fields": [[0, 18], [0, 1], [3, 0]],
    }


REMOTES = """
    seen = [
        [
            nvmlDeviceGetNvLinkRemotePciInfo(gpu, link).busId
            for link in range(NVML_NVLINK_MAX_LINKS)
            if code_of(nvmlDeviceGetNvLinkState, gpu, link) == NVML_FEATURE_ENABLED
        ]
        for gpu in handles
    ]
"""


def test_nvlinks_to_switches(nvml: Nvml) -> None:
    remotes = nvml("h100-8x", REMOTES)
    assert [len(links) for links in remotes] == [18] * 8
    assert {len(set(links)) for links in remotes} == {4}


def test_nvlinks_to_peers(nvml: Nvml) -> None:
    remotes = nvml("dgx1-v100-8x", REMOTES)
    gpus = description.gpus(driver.find("dgx1-v100-8x").read_text())
    count = [[links.count(gpu.get("pci_bus_id")) for gpu in gpus] for links in remotes]
    # The first row of `nvidia-smi topo -m` on a DGX-1: X NV1 NV1 NV2 NV2 SYS SYS SYS.
    assert count[0] == [0, 1, 1, 2, 2, 0, 0, 0]
    assert count == [list(column) for column in zip(*count, strict=True)]


def test_pairs_and_affinity(nvml: Nvml) -> None:
    code = """
        others = handles[1:]
        seen = {
            "level": [nvmlDeviceGetTopologyCommonAncestor(first, peer) for peer in others],
            "nvlink": [
                nvmlDeviceGetP2PStatus(first, peer, NVML_P2P_CAPS_INDEX_NVLINK) for peer in others
            ],
            "cpus": list(nvmlDeviceGetCpuAffinity(handles[4], 2)),
            "memory": list(nvmlDeviceGetMemoryAffinity(handles[4], 4, NVML_AFFINITY_SCOPE_NODE)),
            "near": [
                nvmlDeviceGetIndex(peer)
                for peer in nvmlDeviceGetTopologyNearestGpus(first, NVML_TOPOLOGY_HOSTBRIDGE)
            ],
        }
    """
    cpus = sum(1 << cpu for cpu in [*range(20, 40), *range(60, 80)])
    assert nvml("dgx1-v100-8x", code) == {
        "level": [10, 30, 30, 50, 50, 50, 50],
        "nvlink": [0, 0, 0, 0, 5, 5, 5],
        "cpus": [cpus & (1 << 64) - 1, cpus >> 64],
        "memory": [2, 0, 0, 0],
        "near": [2, 3],
    }


def test_what_the_machine_does_not_say_is_not_supported(nvml: Nvml) -> None:
    code = """
        seen = [
            code_of(nvmlDeviceGetP2PStatus, first, handles[1], NVML_P2P_CAPS_INDEX_PROP),
            code_of(nvmlDeviceGetMigMode, first),
            code_of(nvmlDeviceGetRemappedRows, first),
            code_of(nvmlDeviceGetNumaNodeId, first),
        ]
    """
    assert nvml("dgx1-v100-8x", code) == [NOT_SUPPORTED] * 4


def test_wrong_arguments_get_the_codes_of_the_real_library(nvml: Nvml) -> None:
    code = """
        library, buffer = ctypes.CDLL("libnvidia-ml.so.1"), create_string_buffer(8)
        seen = {
            "index": code_of(nvmlDeviceGetHandleByIndex, 8),
            "uuid": code_of(nvmlDeviceGetHandleByUUID, "GPU-none"),
            "bus id": code_of(nvmlDeviceGetHandleByPciBusId, "0000:FF:00.0"),
            "short bus id": nvmlDeviceGetIndex(nvmlDeviceGetHandleByPciBusId("0000:db:00.0")),
            "handle": code_of(nvmlDeviceGetName, c_nvmlDevice_t()),
            "version": code_of(nvmlDeviceGetMemoryInfo, first, nvmlMemory_v2 + 1),
            "link": code_of(nvmlDeviceGetNvLinkState, first, 18),
            "buffer": -library.nvmlDeviceGetName(first, buffer, 8),
        }
        nvmlShutdown()
        seen["closed"] = code_of(nvmlDeviceGetCount)
    """
    assert nvml("h100-8x", code) == {
        "index": -2,
        "uuid": -6,
        "bus id": -6,
        "short bus id": 7,
        "handle": -2,
        "version": -25,
        "link": -2,
        "buffer": -7,
        "closed": -1,
    }


@pytest.mark.parametrize(
    ("state", "bad"),
    [("lost", [-15, None]), ("lost-after-handle", [0, -15]), ("no-permission", [-4, None])],
)
def test_a_bad_gpu_is_counted_and_its_siblings_answer(
    nvml: Nvml, state: str, bad: list[int | None]
) -> None:
    code = """
        seen = [
            [handle, None] if isinstance(handle, int) else [0, code_of(nvmlDeviceGetName, handle)]
            for handle in handles
        ]
    """
    healthy = [0, "NVIDIA H100 80GB HBM3"]
    seen = nvml("h100-8x", code, {"gpu 3": {"state": state}})
    assert seen == [healthy] * 3 + [bad] + [healthy] * 4


def test_mig_instances(nvml: Nvml) -> None:
    code = """
        migs = [code_of(nvmlDeviceGetMigDeviceHandleByIndex, first, index) for index in range(4)]
        seen = [nvmlDeviceGetMigMode(first), migs.pop()] + [
            [
                nvmlDeviceGetUUID(mig),
                str(nvmlDeviceGetGpuInstanceId(mig)),
                nvmlDeviceGetAttributes(mig).multiprocessorCount,
                nvmlDeviceGetUUID(nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig)),
            ]
            for mig in migs
        ]
    """
    (gpu,) = description.gpus(driver.find("a100-mig").read_text())
    migs = [[mig.get("uuid"), mig.get("gpu_instance"), 28, gpu.get("uuid")] for mig in gpu.migs]
    assert nvml("a100-mig", code) == [[1, 1], -6, *migs]


MOVING = {
    "gpu *": {
        "utilization_gpu": "20 % to 90 %", "pcie_sent": "3 MiB", "link_received": "2 MiB",
        "pcie_replays": "7",
    },
    "gpu 0": {"xid": "79"},
}  # fmt: skip


def test_quantities_move_and_counters_grow(nvml: Nvml) -> None:
    code = """
        import time
        ids = [NVML_FI_DEV_PCIE_COUNT_TX_BYTES, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
               NVML_FI_DEV_PCIE_REPLAY_COUNTER, NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION]
        def look():
            busy = [nvmlDeviceGetUtilizationRates(gpu).gpu for gpu in handles]
            fields = nvmlDeviceGetFieldValues(first, ids)
            return busy, [-one.nvmlReturn or one.value.ullVal for one in fields]
        seen = [look(), time.sleep(1), look()]
    """
    (busy, before), _, (_, after) = nvml("h100-8x", code, MOVING)
    assert all(20 <= percent <= 90 for percent in busy)
    assert len(set(busy)) > 1
    assert 1 << 20 < after[0] - before[0] < 300 << 20
    assert 1 << 10 < after[1] - before[1] < 200 << 10
    assert after[2:] == before[2:] == [7, NOT_SUPPORTED]


def test_an_error_is_told_once_to_who_waits(nvml: Nvml) -> None:
    code = """
        events = nvmlEventSetCreate()
        for gpu in handles:
            nvmlDeviceRegisterEvents(gpu, nvmlEventTypeXidCriticalError, events)
        told = nvmlEventSetWait_v2(events, 10)
        seen = [told.eventData, code_of(nvmlEventSetWait_v2, events, 10)]
    """
    assert nvml("h100-8x", code, MOVING) == [79, -10]
