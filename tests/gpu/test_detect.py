"""Every field of `launcher detect` beside `nvidia-smi -q -x`, asked before and after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from launcher.detect.nvml_links import parse_bus
from launcher.model import codec
from launcher.model.machine import Gpu, GpuReport
from testing.gpu.machine import TestedMachine
from testing.gpu.report import Report
from testing.gpu.smi import MIB, Smi, SmiGpu, read_list, read_nvlinks


@dataclass(frozen=True)
class Seen:
    """One look of ours between two of nvidia-smi's, for what changes while one looks."""

    before: Smi
    ours: GpuReport
    after: Smi


@pytest.fixture(scope="module")
def seen(machine: TestedMachine, report: Report) -> Seen:
    before, ours, after = machine.smi(), machine.report(), machine.smi()
    if before is None or after is None:
        pytest.skip("there is no nvidia-smi to compare with")
    report.texts["launcher detect"] = machine.launcher("detect").stdout
    return Seen(before, ours, after)


def test_the_driver_answers_for_every_gpu(seen: Seen) -> None:
    assert seen.ours.failure is None
    assert seen.ours.lost == ()
    assert len(seen.ours.gpus) == len(seen.before.gpus)


def test_the_driver_version(seen: Seen) -> None:
    assert seen.ours.driver_version == seen.before.driver_version


def test_the_highest_cuda_version(seen: Seen) -> None:
    assert seen.ours.cuda_version is not None
    assert "{}.{}".format(*seen.ours.cuda_version) == seen.before.cuda_version


# --- field by field ------------------------------------------------------------------------------

Same = Callable[[Gpu, SmiGpu], object]


def _size(ours: int | None, theirs: int | None) -> bool:
    """Say whether two sizes are the same; nvidia-smi rounds each to MiB, up or down."""
    if ours is None or theirs is None:
        return ours is theirs
    return abs(ours - theirs) <= MIB


# By field: are these two the same?  A text says why nvidia-smi -q -x cannot be asked.
FIELDS: dict[str, Same | str] = {
    "index": lambda ours, smi: ours.index == smi.index,
    "uuid": lambda ours, smi: ours.uuid == smi.text("uuid"),
    "name": lambda ours, smi: ours.name == smi.text("product_name"),
    "pci_bus_id": lambda ours, smi: (
        parse_bus(ours.pci_bus_id) == parse_bus(smi.text("pci/pci_bus_id"))
    ),
    "memory_bytes": lambda ours, smi: _size(
        None if ours.memory_shared else ours.memory_bytes, smi.mebibytes("fb_memory_usage/total")
    ),
    "memory_free": lambda ours, smi: _size(
        None if ours.memory_shared else ours.memory_free, smi.mebibytes("fb_memory_usage/free")
    ),
    "memory_shared": lambda ours, smi: (
        not ours.memory_shared or smi.mebibytes("fb_memory_usage/total") is None
    ),
    "memory_reserved": lambda ours, smi: _size(
        ours.memory_reserved, smi.mebibytes("fb_memory_usage/reserved")
    ),
    "compute_capability": "it is in --query-gpu=compute_cap: test_the_compute_capability",
    "mig_enabled": lambda ours, smi: ours.mig_enabled is smi.flag("mig_mode/current_mig"),
    "mig_devices": lambda ours, smi: (
        [(mig.gpu_instance, mig.compute_instance) for mig in ours.mig_devices] == smi.mig_devices
    ),
    "mig_fault": lambda ours, smi: ours.mig_fault is None,
    "minor": lambda ours, smi: ours.minor == smi.number("minor_number"),
    "processes": lambda ours, smi: ours.processes == smi.processes,
    "holders": "their pids are the host's: nvidia-smi in a container shows none",
    "compute_mode": lambda ours, smi: ours.compute_mode == smi.compute_mode,
    "pcie_width": lambda ours, smi: (
        ours.pcie_width == smi.number("pci/pci_gpu_link_info/link_widths/current_link_width")
    ),
    "pcie_width_max": lambda ours, smi: (
        ours.pcie_width_max == smi.number("pci/pci_gpu_link_info/link_widths/max_link_width")
    ),
    "pcie_generation_max": lambda ours, smi: (
        ours.pcie_generation_max == smi.number("pci/pci_gpu_link_info/pcie_gen/max_link_gen")
    ),
    "remap_pending": lambda ours, smi: ours.remap_pending is smi.remap_pending,
    "remap_failed": lambda ours, smi: (
        ours.remap_failed is smi.flag("remapped_rows/remapped_row_failure")
    ),
    "recovery": lambda ours, smi: (
        ours.recovery == smi.recovery
        or (smi.text("gpu_recovery_action") is None and ours.recovery in (None, 0))
    ),
    "ecc_errors": lambda ours, smi: ours.ecc_errors == smi.ecc_errors,
    "slowdown": lambda ours, smi: ours.slowdown == smi.slowdown,
    "vgpu": lambda ours, smi: (
        ours.vgpu
        is (
            None
            if (mode := smi.text("gpu_virtualization_mode/virtualization_mode")) is None
            else mode == "VGPU"
        )
    ),
    "licensed": lambda ours, smi: (
        ours.licensed is None
        or ours.licensed
        is (smi.text("vgpu_software_licensed_product/license_status") or "").startswith("Licensed")
    ),
    "persistence": lambda ours, smi: ours.persistence is smi.flag("persistence_mode"),
    "numa_node": "it is in topo -m: test_topology",
    "cpus": "it is in topo -m: test_topology",
    "cpus_filtered": "it says where our own answer is from",
    "fabric": lambda ours, smi: ours.fabric == _lower(smi.text("fabric/state")),
    "fabric_status": lambda ours, smi: (
        ours.fabric_status is None
        or (ours.fabric_status == 0) is (smi.text("fabric/status") == "Success")
    ),
    "fabric_clique": "only newer versions of nvidia-smi print it",
    "fabric_health": "nvidia-smi prints its parts, each in words",
    "nvlinks": "they are in nvlink -s: test_the_nvlinks_that_are_up",
    "nvlink_version": "nvidia-smi prints the links' speed, and no version",
    "nvlink_errors": "they are in nvlink -e, link by link, in a form for every generation",
}


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None


def test_every_field_of_a_gpu_has_its_row(seen: Seen) -> None:
    assert set(json.loads(codec.to_json(seen.ours.gpus[0]))) == set(FIELDS)


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_what_nvidia_smi_says(seen: Seen, field: str) -> None:
    same = FIELDS[field]
    if isinstance(same, str):
        pytest.skip(same)
    for ours, before, after in zip(seen.ours.gpus, seen.before.gpus, seen.after.gpus, strict=True):
        assert same(ours, before) or same(ours, after), (
            f"GPU {ours.index}: we say {field} = {getattr(ours, field)!r}"
        )


def test_the_compute_capability(machine: TestedMachine, seen: Seen) -> None:
    printed = machine.ask_smi("--query-gpu=compute_cap", "--format=csv,noheader")
    if printed is None:
        pytest.skip("this nvidia-smi knows no compute_cap")
    ours = ["{}.{}".format(*gpu.compute_capability or (0, 0)) for gpu in seen.ours.gpus]
    assert ours == printed.split()


def test_every_uuid_of_the_list(machine: TestedMachine, seen: Seen) -> None:
    printed = machine.ask_smi("-L")
    assert printed is not None
    ours = {gpu.index: [gpu.uuid, *gpu.mig_uuids] for gpu in seen.ours.gpus}
    assert ours == read_list(printed)


def test_the_nvlinks_that_are_up(machine: TestedMachine, seen: Seen) -> None:
    printed = machine.ask_smi("nvlink", "-s")
    if printed is None:
        pytest.skip("this nvidia-smi does not know nvlink -s")
    links = read_nvlinks(printed)
    for gpu in seen.ours.gpus:
        assert (gpu.nvlinks_up, gpu.nvlinks_down) == links.get(gpu.index, (0, 0))
