"""A recorded machine is the machine: described, simulated, read, and described again."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from launcher.gpus import record
from launcher.model.machine import DriverFailure, Gpu, GpuProcess, GpuReport, MigDevice
from sim import description, driver
from testing.printed import NAMES
from testing.topologies import read_texts, reports
from testing.values import replace

# Those whose library ends or hangs the process that loads it are tested on their own.
SIMULATED = sorted({path.stem for path in driver.MACHINES.glob("*")} - {"hung-init", "crash-init"})

# Machines beyond the collections: what is changed of one that is there.
VARIED: dict[str, tuple[str, Mapping[str, Mapping[str, str | None]]]] = {
    "gpus-of-all-states": ("h100-8x", {
        "gpu 1": {"state": "lost"},
        "gpu 2": {"state": "no-permission"},
        "gpu 7": {"state": "lost-after-handle"},
        "faults": {"nvmlDeviceGetHandleByIndex gpu 4": "return 999"},
    }),
    "in-use": ("h100-8x", {
        "gpu *": {"process": "pid 7, memory 1 GiB", "memory_used": "1048577 KiB"},
        "gpu 0": {"process": "pid 8"},
        "gpu 2": {"remapped_rows_failure": "yes", "clocks_event_reasons": "0x60"},
        "gpu 3": {"compute_mode": "exclusive-process", "remapped_rows_pending": "yes"},
        "gpu 4": {"ecc_volatile_uncorrected": "2", "persistence_mode": "enabled"},
        "gpu 5": {"pcie_width": "4", "cpu_affinity": "", "memory_affinity": "0-1"},
        "gpu 6": {"recovery_action": "system-reboot"},
        "gpu 7": {"recovery_action": "none"},
        "faults": {"nvmlDeviceGetComputeRunningProcesses gpu 6": "return 3"},
    }),
    "links-of-all-kinds": ("dgx1-v100-8x", {
        "gpu 0": {"nvlink 0-1": None, "nvlink 0": "disabled", "nvlink 1": "enabled, ibmnpu"},
        "gpu 1": {"nvlink 0": "enabled, version 2.0, switch"},
    }),
    "fabric-of-all-states": ("h100-8x", {
        "gpu 1": {"fabric_state": "in-progress"},
        "gpu 2": {"fabric_status": "999", "link_recovery_errors": "3"},
        "gpu 3": {
            "fabric_clique_id": "7", "fabric_health_mask": "0x2a",
            "link_recovery_errors": "0", "link_replay_errors": "12", "link_crc_errors": "1",
        },
        "gpu 4": {"fabric_state": "not-started"},
        "gpu 5": {"fabric_state": None},
        "gpu 6": {"nvlink 13-17": None, "nvlink 13-16": "disabled"},
    }),
    "links-without-p2p": ("rtx3090-2x-nvlink", {"p2p nvlink": {"0": "X DR", "1": "DR X"}}),
    "mig-in-use": ("a100-mig", {
        "gpu 0 mig 0": {"memory_reserved": "3 MiB", "process": "pid 7, memory 1 GiB"},
        "gpu 0 mig 1": {"memory_total": None},
    }),
    "mig-closed": ("a100-mig", {"faults": {"nvmlDeviceGetMigDeviceHandleByIndex": "return 4"}}),
    "mig-without-instances": ("h100-8x", {"gpu 2": {"mig_mode": "enabled"}}),
    "says-nothing": ("rtx4090-1x", {"gpu *": dict.fromkeys([
        "compute_capability", "memory_total", "compute_mode", "pcie_width", "pcie_width_max",
    ])}),
    "no-gpus": ("mismatch", {"faults": {"nvmlInit": None}}),
}  # fmt: skip


def texts() -> Iterator[tuple[str, str]]:
    for name in SIMULATED:
        yield name, driver.find(name).read_text()
    for name, (base, changes) in VARIED.items():
        yield name, description.edit(driver.find(base).read_text(), changes)


@cache
def machines() -> dict[str, GpuReport]:
    """Return what is read on every machine there is, by name."""
    named = dict(texts())
    return reports() | dict(zip(named, read_texts(list(named.values())), strict=True))


@cache
def machines_again() -> dict[str, GpuReport]:
    """Return what is read on the recordings of all those machines."""
    recordings = [record.describe(report) for report in machines().values()]
    return dict(zip(machines(), read_texts(recordings), strict=True))


def anonymous(report: GpuReport) -> GpuReport:
    """Return the report without what a recording makes up."""
    gpus = tuple(
        replace(
            gpu,
            uuid="",
            mig_devices=tuple(
                replace(mig, uuid="", holders=nameless(mig)) for mig in gpu.mig_devices
            ),
            holders=nameless(gpu),
        )
        for gpu in report.gpus
    )
    return replace(report, gpus=gpus)


def nameless(device: Gpu | MigDevice) -> tuple[GpuProcess, ...]:
    return tuple(replace(one, pid=0) for one in device.holders)


@pytest.mark.parametrize("name", [*NAMES, *SIMULATED, *VARIED])
def test_a_recording_is_read_as_the_machine_was(name: str) -> None:
    assert anonymous(machines_again()[name]) == anonymous(machines()[name])


def test_the_machines_have_something_in_every_field() -> None:
    """Or the test above would not see that it is left out of recordings."""
    for kind, found in {
        Gpu: [gpu for report in machines().values() for gpu in report.gpus],
        MigDevice: machines()["mig-in-use"].gpus[0].mig_devices,
        GpuReport: list(machines().values()),
    }.items():
        for name in kind._fields:
            if name in ("nodes", "seconds"):  # of the container and the moment, not of the driver
                continue
            values = {getattr(value, name) for value in found}
            assert values - {None, (), ""}, name


@pytest.mark.parametrize("name", NAMES)
def test_the_numa_node_is_recorded_for_sysfs_too(name: str) -> None:
    """NVML has no such answer; the files in /sys are made from the description."""
    recorded = description.gpus(record.describe(reports()[name]))
    nodes = [None if gpu.numa_node is None else str(gpu.numa_node) for gpu in reports()[name].gpus]
    assert [gpu.get("numa_node") or None for gpu in recorded] == nodes


def test_what_gpus_have_in_common_is_written_once() -> None:
    lines = record.describe(machines()["h100-8x-one-lost"]).splitlines()
    assert lines.count("name = NVIDIA H100 80GB HBM3") == 1
    assert [line for line in lines if line.startswith("nvlink 0-3 =")] == [
        "nvlink 0-3 = enabled, version 4.0, switch 00000000:07:00.0, p2p"
    ]


# --- what identifies a machine ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["h100-8x", "a100-mig", "gpus-of-all-states"])
def test_no_uuid_or_serial_number_is_in_a_recording(name: str) -> None:
    text = record.describe(machines()[name]).lower()
    described = description.gpus(dict(texts())[name])
    for device in (*described, *(mig for gpu in described for mig in gpu.migs)):
        for secret in (device.get("uuid"), device.get("serial")):
            assert not secret or secret.lower() not in text
    for uuid in re.findall(r"= (?:gpu|mig)-([0-9a-f-]+)", text):
        assert re.fullmatch(r"[0-9a-f]{8}-0000-4000-8000-000000000000", uuid)


def test_made_up_uuids_differ() -> None:
    for report in machines_again().values():
        uuids = [gpu.uuid for gpu in report.gpus]
        uuids += [uuid for gpu in report.gpus for uuid in gpu.mig_uuids]
        assert len(set(uuids)) == len(uuids)


def test_mig_uuids_of_old_drivers_keep_their_form() -> None:
    """MIG-GPU-<UUID of the GPU>/<GPU instance>/<compute instance>: before R470."""
    report = machines()["a100-mig"]
    gpu = report.gpus[0]
    mig = replace(gpu.mig_devices[1], uuid=f"MIG-{gpu.uuid}/5/0")
    text = record.describe(replace(report, gpus=(replace(gpu, mig_devices=(mig,)),)))
    (recorded,) = description.gpus(text)
    assert recorded.migs[0].get("uuid") == f"MIG-{recorded.get('uuid')}/5/0"


# --- drivers that do not answer --------------------------------------------------------------


def test_a_crash_is_recorded_as_one(tmp_path: Path) -> None:
    path = tmp_path / "recorded.machine"
    path.write_text(record.describe(GpuReport(failure=DriverFailure("crashed", "SIGSEGV"))))
    env = driver.environment(driver.build(driver.CACHE), path)
    code = "from launcher.detect import nvml; nvml.read_report()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGSEGV


def test_a_driver_that_hangs_is_recorded_as_one() -> None:
    text = record.describe(GpuReport(failure=DriverFailure("hung", "no answer within 30 s")))
    (faults,) = (section for section in description.parse(text) if section.name == "faults")
    assert faults.lines == [("nvmlInit", "hang")]


def test_a_library_that_is_not_there_is_said_in_a_comment() -> None:
    reason = "libnvidia-ml.so.1: cannot open shared object file"
    text = record.describe(GpuReport(failure=DriverFailure("library", reason)), "550.54.15")
    assert reason in text
    assert [section.name for section in description.parse(text)] == ["machine"]


def test_a_kernel_module_of_another_version_is_recorded() -> None:
    report = machines()["rtx4090-1x"]
    said = description.machine(record.describe(report, kernel_driver="535.54.03"))
    assert said.get("kernel_module_version") == "535.54.03"
    same = description.machine(record.describe(report, kernel_driver=report.driver_version))
    assert not same.get("kernel_module_version")
