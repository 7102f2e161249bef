"""The box and its GPUs as Prometheus text: names, units, labels, and what is left out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testing.busy import busy
from tests.unit.guest.test_gpu_sampler import sampled

PROGRAM = Path(__file__).parents[3] / "launcher" / "guest" / "launcher_metrics.py"
DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
BOX = {
    "version": "1.2.3", "healthy": False, "uptime": 60.0, "ready_after": 1.5, "memory_kills": 2,
    "services": {"jupyter": {"ready": True}, "gpus": {"ready": False}},
    "programs": {"jupyter": {"state": "running", "restarts": 4}}, "logins": 1, "kernels": 3,
    "limits": {"cpus": 1.5, "memory": 8 << 30, "memory_available": None},
    "xids": {"1": {"31": 2}}, "devices": 8,
    "room": {"/dev/shm": {"free": 1 << 20, "size": 64 << 20}},
}  # fmt: skip
NO_DRIVER = {"gpus": [], "fault": "libnvidia-ml.so.1: no such file", "age": None}
HOSTILE = 'a"b\\c\nd{} 1\nlauncher_healthy 1'


def printed(box: dict[str, Any], gpus: dict[str, Any]) -> str:
    run = subprocess.run(
        [sys.executable, "-I", str(PROGRAM)], input=json.dumps({"box": box, "gpus": gpus}),
        text=True, capture_output=True, check=True,
    )  # fmt: skip
    return run.stdout


def samples(text: str, name: str) -> dict[str, float]:
    """Return the values of a metric, by what its first distinguishing label says."""
    return {
        next((sample.labels[key] for key in ("GPU_I_ID", "gpu", "service", "program", "path")
              if key in sample.labels), ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }  # fmt: skip


def test_the_gpus_under_dcgm_s_names_in_its_units(tmp_path: Path) -> None:
    said = sampled(busy(tmp_path / "busy.machine"), lines=2)
    text = printed({}, said)
    for name, key, factor in (
        ("DCGM_FI_DEV_GPU_UTIL", "utilization", 1),
        ("DCGM_FI_DEV_FB_USED", "memory_used", 2**-20),
        ("DCGM_FI_DEV_FB_FREE", "memory_free", 2**-20),
        ("DCGM_FI_DEV_POWER_USAGE", "power", 1),
        ("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "energy", 1000),
        ("DCGM_FI_DEV_SM_CLOCK", "clock_sm", 1),
        ("DCGM_FI_DEV_MEM_CLOCK", "clock_memory", 1),
        ("DCGM_FI_DEV_GPU_TEMP", "temperature", 1),
        ("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "pcie_replays", 1),
        ("DCGM_FI_PROF_PCIE_TX_BYTES", "pcie_sent", 1),
    ):
        told = {str(gpu["index"]): gpu[key] * factor for gpu in said["gpus"]}
        assert samples(text, name) == pytest.approx(told), name
    # 2 GiB sent and 1 GiB received a second, as DCGM counts: KiB by the thousand.
    both = samples(text, "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL")["3"]
    assert both == pytest.approx(3 * 1024 * 1024 / 1000, rel=0.02)


def test_xids_are_those_that_the_watch_heard() -> None:
    """The last is the last of its list; without a watch nobody knows of any."""
    said = sampled("rtx3090-2x-nvlink")
    text = printed({**BOX, "xids": {"1": {"13": 4, "79": 1}}}, said)
    assert samples(text, "DCGM_FI_DEV_XID_ERRORS") == {"0": 0, "1": 79}
    assert 'launcher_gpu_xids_total{gpu="1",xid="13"} 4' in text
    assert "XID" not in printed({**BOX, "services": {}}, said)


def test_the_labels_are_dcgm_exporter_s() -> None:
    said = sampled("h100-8x")
    (family,) = (
        family
        for family in text_string_to_metric_families(printed({}, said))
        if family.name == "DCGM_FI_DEV_GPU_TEMP"
    )
    labels = family.samples[2].labels
    gpu = said["gpus"][2]
    assert labels.pop("Hostname") == labels.pop("hostname")
    assert labels == {
        "gpu": "2", "UUID": gpu["uuid"], "pci_bus_id": gpu["pci_bus_id"], "device": "nvidia2",
        "modelName": "NVIDIA H100 80GB HBM3", "DCGM_FI_DRIVER_VERSION": "565.57.01",
    }  # fmt: skip


def test_memory_is_the_instances_where_there_are_some() -> None:
    text = printed({}, sampled("a100-mig"))
    assert samples(text, "DCGM_FI_DEV_FB_USED") == {"3": 14366, "5": 9826, "6": 13}
    assert 'GPU_I_PROFILE="2g.20gb"' in text
    assert "DCGM_FI_DEV_GPU_UTIL" not in text  # NVML tells none there
    assert samples(text, "DCGM_FI_DEV_GPU_TEMP") == {"0": 34}


def test_a_lost_gpu_is_counted_and_has_no_values() -> None:
    text = printed(BOX, sampled("h100-8x-one-lost"))
    assert samples(text, "launcher_gpus_lost") == {"": 1}
    assert samples(text, "launcher_gpus") == {"": 7}
    assert "3" not in samples(text, "DCGM_FI_DEV_GPU_TEMP")


def test_the_box() -> None:
    text = printed(BOX, NO_DRIVER)
    assert {name: samples(text, f"launcher_{name}") for name in (
        "up", "healthy", "ready_seconds", "memory_kills_total", "kernels", "logins",
        "gpus_visible", "gpu_driver_up", "service_ready", "program_restarts_total",
        "filesystem_free_bytes", "filesystem_size_bytes", "cpus", "memory_limit_bytes",
        "memory_available_bytes",
    )} == {
        "up": {"": 1}, "healthy": {"": 0}, "ready_seconds": {"": 1.5},
        "memory_kills_total": {"": 2}, "kernels": {"": 3}, "logins": {"": 1},
        "gpus_visible": {"": 8}, "gpu_driver_up": {"": 0},
        "service_ready": {"jupyter": 1, "gpus": 0}, "program_restarts_total": {"jupyter": 4},
        "filesystem_free_bytes": {"/dev/shm": 1 << 20},
        "filesystem_size_bytes": {"/dev/shm": 64 << 20}, "cpus": {"": 1.5},
        "memory_limit_bytes": {"": 8 << 30}, "memory_available_bytes": {},
    }  # fmt: skip


def test_a_launcher_that_does_not_answer_is_not_healthy_either() -> None:
    text = printed({}, NO_DRIVER)
    assert samples(text, "launcher_up") == {"": 0}
    assert "launcher_healthy" not in text
    assert "DCGM" not in text


def test_the_docs_have_every_metric_and_no_other(tmp_path: Path) -> None:
    gpus = (sampled(busy(tmp_path / "busy.machine"), lines=2), sampled("rtx4090-1x"))
    box = {**BOX, "limits": {"cpus": 2, "memory": 2, "memory_available": 1}}
    text = "".join(printed(box, {**said, "age": 1.0}) for said in gpus)
    rows = re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == set(re.findall(r"^(\w+)[ {]", text, re.MULTILINE))


def test_texts_are_data() -> None:
    said = sampled("rtx4090-1x")
    said["gpus"][0]["name"] = HOSTILE
    programs = {HOSTILE: {"state": HOSTILE, "restarts": 0}}
    text = printed({**BOX, "programs": programs}, said)
    assert samples(text, "launcher_healthy") == {"": 0}
    assert samples(text, "launcher_program_running") == {HOSTILE: 0}
    families = text_string_to_metric_families(text)
    assert HOSTILE in {s.labels.get("modelName") for family in families for s in family.samples}
