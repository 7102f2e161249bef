"""The layer "hardware": for each of its checks what it is the answer for, and what it is not."""

from __future__ import annotations

import pytest

from launcher.checks import driver, hardware, judge
from launcher.gpus.fabric import TROUBLES
from launcher.model.evidence import Evidence
from launcher.model.machine import DeviceNode, DriverFailure, GpuReport, Hardware, LostGpu
from testing.evidences import NO_NVML, cheap, fails, full, healthy, nvml_fails, opened, works
from testing.machines import (
    MODULES,
    NO_CARD,
    NOT_INJECTED,
    answering,
    cards,
    gpu,
    mig_gpu,
    pci_cards,
)
from testing.values import replace

ROWS = (*hardware.CHECKS, *driver.CHECKS)


def lost(code: int, error: str, count: int = 1) -> tuple[LostGpu, ...]:
    return tuple(LostGpu(2 + index, error, code) for index in range(count))


def one_lost(code: int, error: str) -> Evidence:
    return full(answering(gpu(0), gpu(1), lost=lost(code, error)), cards(3))


def none_counted(device_id: str, version: str = "570.86.15", *, open_module: bool) -> Evidence:
    """Return a loaded driver and a card on the bus, of which NVML counts nothing."""
    found = replace(cards(1), pci=pci_cards(device_id), kernel_driver=version)
    return cheap(answering(), replace(found, open_module=open_module))


def with_gpu(**changes: object) -> Evidence:
    """Return two GPUs, the second of which has these fields."""
    return full(answering(gpu(0), gpu(1, **changes)), cards(2))


ALL_MIG_EMPTY = full(
    answering(mig_gpu(0, 0)), cards(1), trials=(fails(100, "CUDA_ERROR_NO_DEVICE"),)
)
MIG_CLOSED = full(
    answering(replace(mig_gpu(0, 0), mig_fault=4)), cards(1),
    trials=(fails(100, "CUDA_ERROR_NO_DEVICE"),),
)  # fmt: skip
JETSON = replace(NO_CARD, device_nodes=("/dev/nvmap",))
WSL = replace(NO_CARD, device_nodes=("/dev/dxg",))

FAILURES = {
    "none": ("hardware.none", cheap(NO_NVML, NO_CARD)),
    "none-bus-hidden": ("hardware.none", cheap(NO_NVML, Hardware(pci_hidden=True))),
    "none-library-of-the-image": (
        "hardware.none",
        cheap(nvml_fails(9, "Driver Not Loaded"), NO_CARD),
    ),
    "power": ("hardware.power_cables", one_lost(8, "Insufficient External Power")),
    "irq": ("hardware.irq", one_lost(11, "Interrupt Request Issue")),
    "inforom": ("hardware.inforom", one_lost(14, "Corrupted infoROM")),
    "reset": ("hardware.reset_required", one_lost(16, "GPU requires restart")),
    "all-lost": (
        "hardware.all_lost",
        full(answering(lost=lost(15, "GPU is lost", 2)), cards(2)),
    ),
    "all-lost-at-once": ("hardware.all_lost", full(nvml_fails(15, "GPU is lost"), cards(1))),
    "lost": ("hardware.lost", one_lost(15, "GPU is lost")),
    "unreadable": ("hardware.unreadable", one_lost(999, "Unknown Error")),
    "unreadable-at-start": (
        "hardware.unreadable",
        cheap(answering(gpu(0), lost=lost(999, "Unknown Error")), cards(2)),
    ),
    "unreadable-all": (
        "hardware.unreadable",
        cheap(answering(lost=lost(4, "Insufficient Permissions")), cards(1)),
    ),
    "no-adapter-and-nothing-shows": (
        "hardware.no_adapter",
        cheap(replace(answering(), driver_version=None), Hardware(pci_hidden=True)),
    ),
    "no-adapter-of-an-unknown-module": (
        "hardware.no_adapter",
        cheap(answering(), replace(cards(1), kernel_driver=None)),
    ),
    "may-not-though-its-node-opens": ("hardware.unreadable", one_lost(4, "…")),
    "blocked-though-its-node-opens": ("hardware.unreadable", one_lost(17, "…")),
    "unreadable-whatever-other-nodes-do": (
        "hardware.unreadable",
        full(
            replace(one_lost(999, "…").report, nodes=opened(cards(3), nvidia_uvm="EPERM")), cards(3)
        ),
    ),
    "no-adapter-so-no-node": (
        "hardware.no_adapter",
        cheap(answering(), replace(cards(1), device_nodes=("/dev/nvidiactl",))),
    ),
    "no-adapter-though-a-variable-says-none": (
        "hardware.no_adapter",
        cheap(answering(), cards(1), {"NVIDIA_VISIBLE_DEVICES": "none"}),
    ),
    "blackwell-closed": ("hardware.needs_open_module", none_counted("2b85", open_module=False)),
    "pascal-open": ("hardware.needs_closed_module", none_counted("1b06", open_module=True)),
    "pascal-590": (
        "hardware.needs_closed_module",
        none_counted("1b06", "590.44.01", open_module=False),
    ),
    "no-adapter": ("hardware.no_adapter", none_counted("2684", open_module=True)),
    "no-adapter-blackwell": ("hardware.no_adapter", none_counted("2b85", open_module=True)),
    "no-adapter-pascal": ("hardware.no_adapter", none_counted("1b06", open_module=False)),
    "mig-empty": ("hardware.mig_empty", ALL_MIG_EMPTY),
    "mig-closed": ("hardware.mig_empty", MIG_CLOSED),
    "mig-empty-at-start": ("hardware.mig_empty", cheap(answering(mig_gpu(0, 0)), cards(1))),
    "remap-failed": ("hardware.remap_failed", with_gpu(remap_failed=True)),
}

WARNINGS = {
    "hardware.some_mig_empty": cheap(answering(mig_gpu(0, 2), mig_gpu(1, 0)), cards(2)),
    "hardware.ecc_errors": with_gpu(ecc_errors=3),
    "hardware.remap_pending": with_gpu(remap_pending=True),
    "hardware.recovery_reset": with_gpu(recovery=2),
    "hardware.recovery_drain": with_gpu(recovery=4),
    "hardware.pcie_width": with_gpu(pcie_width=4, pcie_width_max=16),
}


@pytest.mark.parametrize(("row", "seen"), FAILURES.values(), ids=FAILURES)
def test_each_cause_has_its_one_failure(row: str, seen: Evidence) -> None:
    verdict = judge(seen, ROWS)
    assert verdict.failure is not None
    assert verdict.failure.id == row
    assert verdict.failure.means
    assert verdict.failure.fix
    assert verdict.exit_status == 11
    assert not verdict.warnings


@pytest.mark.parametrize(("row", "seen"), WARNINGS.items(), ids=WARNINGS)
def test_each_warning_leaves_the_machine_healthy(row: str, seen: Evidence) -> None:
    verdict = judge(seen, ROWS)
    assert [warning.id for warning in verdict.warnings] == [row]
    assert verdict.warnings[0].fix
    assert verdict.exit_status == 0


def test_every_check_is_reached() -> None:
    reached = {row for row, _ in FAILURES.values()} | set(WARNINGS)
    reached |= {one.id for one in TROUBLES if one.id.startswith("hardware.")}  # test_fabric
    assert reached == {check.id for check in hardware.CHECKS}


BLOCKED = (DeviceNode("/dev/nvidia0", "EPERM"), DeviceNode("/dev/nvidiactl", ""))

NOT_HERE = {
    "healthy": healthy(),
    "one-gpu-in-the-start's-eyes": cheap(answering(gpu(0)), cards(1)),
    "not-injected": cheap(NO_NVML, NOT_INJECTED),
    "module-in-proc-only": cheap(NO_NVML, replace(NO_CARD, modules=MODULES)),
    "driver-without-a-card": cheap(NO_NVML, replace(NO_CARD, kernel_driver="550.54.15")),
    "jetson": cheap(NO_NVML, JETSON),
    "jetson-whose-nvml-counts-none": cheap(answering(), JETSON),
    "cuda-works-without-nvml": full(answering(), NO_CARD, trials=(works((gpu(0),)),)),
    "wsl": cheap(NO_NVML, WSL),
    "hung-with-nothing-else": cheap(GpuReport(failure=DriverFailure("hung", "")), NO_CARD),
    "hidden-bus-and-nvml-9": cheap(nvml_fails(9, "…"), Hardware(pci_hidden=True)),
    "node-blocked": full(replace(one_lost(999, "Unknown Error").report, nodes=BLOCKED), cards(3)),
    "none-asked-for": cheap(
        answering(),
        replace(cards(1), device_nodes=("/dev/nvidiactl", "/dev/nvidia-uvm")),
        {"NVIDIA_VISIBLE_DEVICES": "none"},
    ),
    "counted-but-blocked": cheap(replace(answering(), nodes=BLOCKED), cards(1)),
    "with-a-vm": cheap(
        answering(), replace(cards(1), pci=(replace(pci_cards("2684")[0], driver="vfio-pci"),))
    ),
    "mig": full(answering(mig_gpu(0, 2)), cards(1)),
    "mig-that-cuda-sees": full(
        answering(mig_gpu(0, 0)), cards(1), trials=(works((mig_gpu(0, 1),)),)
    ),
    "sound": with_gpu(remap_failed=False, remap_pending=False, ecc_errors=0),
    "all-lanes": with_gpu(pcie_width=16, pcie_width_max=16),
    "lanes-untold": with_gpu(pcie_width=None, pcie_width_max=16),
    "lanes-of-the-slot-untold": with_gpu(pcie_width=8, pcie_width_max=None),
}


@pytest.mark.parametrize("seen", NOT_HERE.values(), ids=NOT_HERE)
def test_what_another_layer_explains_or_nothing_is_wrong_with(seen: Evidence) -> None:
    verdict = judge(seen, hardware.CHECKS)
    assert (verdict.failure, verdict.warnings) == (None, ())


def said(seen: Evidence) -> tuple[str, str]:
    finding = judge(seen, ROWS).failure
    assert finding is not None
    return finding.what, finding.fix


def test_gpus_that_fail_alike_are_named_together() -> None:
    seen = full(answering(gpu(0), gpu(1), lost=lost(15, "GPU is lost", 2)), cards(4))
    assert said(seen)[0] == "GPU 2, 3: NVML 15: GPU is lost"


def test_nvmls_own_words_and_code_are_quoted() -> None:
    assert "NVML 999: Unknown Error" in said(one_lost(999, "Unknown Error"))[0]
    assert "NVML 15: words of 15" in said(full(nvml_fails(15, "words of 15."), cards(1)))[0]


def test_card_and_module_that_do_not_fit_are_named() -> None:
    words = said(none_counted("1b06", open_module=True))[0]
    assert words.startswith("NVIDIA GPU (10de:1b06) at 0000:01:00.0, older than Turing, ")
    assert words.endswith("and the open kernel module 570.86.15")
    closed = said(none_counted("1b06", "590.44.01", open_module=False))[0]
    assert closed.endswith("and the kernel module 590.44.01")


@pytest.mark.parametrize(
    ("version", "hardware_seen", "words"),
    [
        (None, NO_CARD, "NVML counts 0 devices"),
        ("550.54.15", NO_CARD, "driver 550.54.15: NVML counts 0 devices"),
        (
            "550.54.15",
            cards(1),
            "NVIDIA GPU (10de:2330) at 0000:01:00.0, driver 550.54.15: NVML counts 0 devices",
        ),
    ],
)
def test_what_is_known_of_a_gpu_that_is_not_counted(version, hardware_seen, words) -> None:
    assert said(cheap(replace(answering(), driver_version=version), hardware_seen))[0] == words


def test_a_card_is_named_as_the_system_names_it() -> None:
    seen = none_counted("2b85", open_module=False)
    card = replace(seen.hardware.pci[0], name="GB202 [GeForce RTX 5090]")
    named = replace(seen.hardware, pci=(card, *pci_cards("2b85", 2)[1:]))
    what, fix = said(cheap(seen.report, named))
    assert what.startswith("NVIDIA GeForce RTX 5090 at 0000:01:00.0 and 1 more")
    assert "570.86.15" in what
    assert "-open" in fix


@pytest.mark.parametrize(
    ("device_id", "open_module", "row"),
    [
        # The last Volta and the first Turing, the last Ada and the first Blackwell.
        ("1dff", True, "hardware.needs_closed_module"),
        ("1e02", True, "hardware.no_adapter"),
        ("28f8", False, "hardware.no_adapter"),
        ("2901", False, "hardware.needs_open_module"),
        ("3182", False, "hardware.needs_open_module"),
        ("????", True, "hardware.no_adapter"),
        ("????", False, "hardware.no_adapter"),
    ],
)
def test_the_module_that_a_card_needs(device_id: str, open_module: bool, row: str) -> None:
    failure = judge(none_counted(device_id, open_module=open_module), ROWS).failure
    assert failure is not None
    assert failure.id == row


def test_the_fix_names_the_gpu_by_its_address() -> None:
    """The host's GPU 5 may be the container's GPU 1."""
    seen = WARNINGS["hardware.remap_pending"]
    assert judge(seen, ROWS).warnings[0].fix.endswith(f"-i {seen.gpus[1].pci_bus_id}")


def test_nodes_that_open_do_not_hide_an_unreadable_gpu() -> None:
    seen = one_lost(999, "Unknown Error")
    assert seen.report.nodes == opened(cards(3))
    assert said(seen)[0].startswith("GPU 2: NVML 999")


def test_an_instance_that_does_not_open_is_not_to_be_made() -> None:
    failure = judge(MIG_CLOSED, ROWS).failure
    assert failure is not None
    assert "no MIG instance can be opened (NVML 4)" in failure.what
    assert "-cgi" not in failure.fix
    empty = judge(ALL_MIG_EMPTY, ROWS).failure
    assert empty is not None
    assert "there is no MIG instance" in empty.what
    assert "-cgi 0 -C" in empty.fix
