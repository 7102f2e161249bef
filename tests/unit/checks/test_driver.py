"""The layer "driver": for each of its checks what it is the answer for, and what it is not."""

from __future__ import annotations

import pytest

from launcher.checks import driver, hardware, judge
from launcher.gpus.fabric import TROUBLES
from launcher.model.evidence import CLEAN, Evidence, TorchReport
from launcher.model.machine import DriverFailure, GpuReport, NvLinks, PciDevice
from testing.evidences import NO_NVML, cheap, fails, full, healthy, nvml_fails, real, works
from testing.machines import LOST, NO_CARD, NOT_INJECTED, answering, cards, gpu, machine, pci_cards
from testing.values import replace

ROWS = (*hardware.CHECKS, *driver.CHECKS)

MISMATCH = nvml_fails(18, "Driver/library version mismatch")
NOT_LOADED = nvml_fails(9, "Driver Not Loaded")
UNBOUND = replace(cards(1), pci=(replace(cards(1).pci[0], driver=None),))
UNKNOWN = fails(999, "CUDA_ERROR_UNKNOWN")
NOT_READY = fails(802, "CUDA_ERROR_SYSTEM_NOT_READY")
NOT_INITIALIZED = fails(3, "CUDA_ERROR_NOT_INITIALIZED")
PCIE = "NVIDIA H100 PCIe"

NO_UVM = replace(cards(1), modules=("nvidia_modeset", "nvidia"))
NO_UVM_NODE = replace(NO_UVM, device_nodes=("/dev/nvidia0", "/dev/nvidiactl"))
OPEN = replace(cards(1), open_module=True)
OLD = replace(cards(1), kernel_driver="470.256.02")


def ended(kind: str, reason: str) -> GpuReport:
    return GpuReport(failure=DriverFailure(kind, reason))


def bound_to(kernel_driver: str | None, device_id: str = "2684") -> Evidence:
    """Return a machine without NVIDIA's kernel module, whose card this driver has."""
    card = PciDevice("0000:01:00.0", device_id, kernel_driver)
    return cheap(NO_NVML, replace(NO_CARD, pci=(card,)))


def mismatch(*libraries: str) -> Evidence:
    found = tuple(real("libnvidia-ml.so.1", version) for version in libraries)
    return full(MISMATCH, cards(1), libraries=found)


def on_board(name: str = "NVIDIA H100 80GB HBM3", trial=NOT_READY, **changes: object) -> Evidence:
    trials = () if trial is None else (trial,)
    return full(answering(gpu(0, name, **changes)), cards(1), trials=trials, torch=None)


def with_torch(torch: TorchReport | None) -> Evidence:
    return full(answering(gpu(0)), OLD, torch=torch)


def one_gpu(hardware_seen, trial) -> Evidence:
    return full(answering(gpu(0, PCIE)), hardware_seen, trials=(trial,), torch=None)


SWITCHED = (NvLinks(18, "switch"),)
TO_PEERS = (NvLinks(12, "gpu"),)

FAILURES = {
    "hung": ("driver.hung", cheap(ended("hung", "no answer within 30 s"), cards(1))),
    "crashed": ("driver.crashed", cheap(ended("crashed", "killed by SIGSEGV"), cards(1))),
    "nouveau": ("driver.nouveau", bound_to("nouveau")),
    "vfio": ("driver.vfio", bound_to("vfio-pci")),
    "vfio-beside-a-loaded-driver": (
        "driver.vfio",
        cheap(answering(), replace(cards(1), pci=bound_to("vfio-pci").hardware.pci)),
    ),
    "not-loaded": ("driver.not_loaded", bound_to(None)),
    "not-loaded-says-nvml": ("driver.not_loaded", cheap(NOT_LOADED, bound_to(None).hardware)),
    "unloaded-under-the-container": (
        "driver.not_loaded_nvml",
        cheap(NOT_LOADED, replace(UNBOUND, kernel_driver=None, modules=())),
    ),
    "mismatch-at-start": ("driver.mismatch", cheap(MISMATCH, cards(1))),
    "mismatch": ("driver.mismatch", mismatch("565.57.01")),
    "mismatch-of-an-old-module": ("driver.mismatch", cheap(MISMATCH, OLD)),
    "too-old-at-start": ("driver.too_old", cheap(answering(gpu(0)), OLD)),
    "too-old": (
        "driver.too_old",
        with_torch(TorchReport("ok", version="2.6.0", cuda="12.4", available=False)),
    ),
    "too-old-on-windows": (
        "driver.too_old",
        cheap(
            replace(answering(gpu(0)), driver_version="472.12"),
            replace(NO_CARD, device_nodes=("/dev/dxg",)),
        ),
    ),
    "too-old-and-not-injected": (
        "driver.too_old",
        cheap(NO_NVML, replace(NOT_INJECTED, kernel_driver="470.256.02")),
    ),
    "timeout": ("driver.timeout", cheap(nvml_fails(10, "Timeout"), cards(1))),
    "nvml": ("driver.nvml", cheap(nvml_fails(20, "Insufficient Memory"), cards(1))),
    "nodes-module-and-yet-nvml-9": ("driver.nvml", cheap(NOT_LOADED, cards(1))),
    "uvm": ("driver.uvm_not_loaded", one_gpu(NO_UVM, UNKNOWN)),
    "uvm-at-start": ("driver.uvm_not_loaded", cheap(answering(gpu(0)), NO_UVM_NODE)),
    "fabric-by-name": ("driver.fabric_manager", on_board()),
    "fabric-a100": ("driver.fabric_manager", on_board("NVIDIA A100-SXM4-80GB")),
    "fabric-by-links": ("driver.fabric_manager", on_board("NVIDIA X", nvlinks=SWITCHED)),
    "fabric-by-state": ("driver.fabric_manager", on_board("NVIDIA X", fabric="in progress")),
    "fabric-at-start": ("driver.fabric_manager", on_board(trial=None, fabric="not started")),
    "hmm": ("driver.hmm", one_gpu(OPEN, NOT_INITIALIZED)),
}

PERSISTENCE_OFF = full(answering(gpu(0), gpu(1, persistence=False)), cards(2))


@pytest.mark.parametrize(("row", "seen"), FAILURES.values(), ids=FAILURES)
def test_each_cause_has_its_one_failure(row: str, seen: Evidence) -> None:
    verdict = judge(seen, ROWS)
    assert verdict.failure is not None
    assert verdict.failure.id == row
    assert verdict.failure.means
    assert verdict.failure.fix
    assert verdict.exit_status == 12
    assert not verdict.warnings


def test_persistence_is_a_warning_on_a_data_centre_card() -> None:
    verdict = judge(PERSISTENCE_OFF, ROWS)
    assert [warning.id for warning in verdict.warnings] == ["driver.persistence_off"]
    assert verdict.warnings[0].what.startswith("GPU 1 of 2")
    assert verdict.exit_status == 0


@pytest.mark.parametrize(("seconds", "words"), [(None, None), (2.0, None), (12.2, "took 12 s")])
def test_a_slow_driver_is_one_that_nobody_keeps_ready(seconds: float | None, words: str) -> None:
    """A desktop's card too, where it shows."""
    card = replace(gpu(0), name="NVIDIA GeForce RTX 3090", persistence=False)
    seen = cheap(replace(answering(card), seconds=seconds), cards(1))
    found = judge(seen, ROWS).warnings
    assert [one.id for one in found] == (["driver.persistence_off"] if words else [])
    assert all(words in one.what for one in found)


def test_every_check_is_reached() -> None:
    reached = {row for row, _ in FAILURES.values()} | {"driver.persistence_off"}
    reached |= {
        trouble.id for trouble in TROUBLES if trouble.id.startswith("driver.")
    }  # test_fabric
    assert reached == {check.id for check in driver.CHECKS}


JETSON = replace(NO_CARD, kernel_driver="35.4.1", device_nodes=("/dev/nvmap",), modules=("nvidia",))

NOT_HERE = {
    "healthy": healthy(),
    "seen-by-a-start": cheap(answering(gpu(0)), cards(1)),
    "no-gpu": cheap(NO_NVML, NO_CARD),
    "not-injected": cheap(NO_NVML, NOT_INJECTED),
    "module-in-proc-only": cheap(
        NO_NVML, replace(NOT_INJECTED, kernel_driver=None, modules=("nvidia",))
    ),
    "version-in-proc-only": cheap(NO_NVML, replace(NOT_INJECTED, modules=None)),
    "nvml-9-version-in-proc-only": cheap(NOT_LOADED, replace(NOT_INJECTED, modules=None)),
    "nvml-9-module-in-proc-only": cheap(NOT_LOADED, replace(NOT_INJECTED, kernel_driver=None)),
    "gpus-answer-whatever-shows": cheap(answering(gpu(0)), bound_to(None).hardware),
    "gpus-are-lost-whatever-shows": cheap(answering(lost=(LOST,)), bound_to(None).hardware),
    "gpus-answer-and-cards-are-away": cheap(
        answering(gpu(0)), replace(cards(1), pci=bound_to("vfio-pci").hardware.pci)
    ),
    "second-card-of-a-vm": full(
        answering(gpu(0)),
        replace(cards(1), pci=(*pci_cards("2684"), bound_to("vfio-pci").hardware.pci[0])),
    ),
    "nouveau-has-another-card": full(
        answering(gpu(0)),
        replace(cards(1), pci=(*pci_cards("2684"), bound_to("nouveau").hardware.pci[0])),
    ),
    "one-library-matches": mismatch("565.57.01", "550.54.15"),
    "cuda-11-on-its-driver": with_torch(TorchReport("ok", cuda="11.8", available=False)),
    "compat-makes-up-for-it": with_torch(TorchReport("ok", cuda="12.4", available=True)),
    "oldest-that-will-do": cheap(answering(gpu(0)), replace(OLD, kernel_driver="525.60.13")),
    "jetson": cheap(answering(gpu(0)), JETSON),
    "permission": cheap(nvml_fails(4, "Insufficient Permissions"), cards(1)),
    "blocked": cheap(nvml_fails(17, "…"), cards(1)),
    "unknown": cheap(nvml_fails(999, "Unknown Error"), cards(1)),
    "library-of-the-image-and-no-node": cheap(NOT_LOADED, NOT_INJECTED),
    "gvisor": Evidence(machine(nvml_fails(20, "…"), cards(1), platform="gvisor"), {}),
    "uvm-not-needed": full(answering(gpu(0)), NO_UVM),
    "uvm-node-is-there": cheap(answering(gpu(0)), NO_UVM),
    "3-without-nvml": full(NO_NVML, OPEN, trials=(NOT_INITIALIZED,)),
    "uvm-loaded": one_gpu(cards(1), UNKNOWN),
    "modules-hidden": one_gpu(replace(cards(1), modules=None), UNKNOWN),
    "uvm-and-another-error": one_gpu(NO_UVM_NODE, NOT_READY),
    "802-without-a-switch": on_board(PCIE),
    "802-among-peers": on_board(PCIE, nvlinks=TO_PEERS),
    "fabric-done": on_board(PCIE, fabric="completed"),
    "fabric-that-cuda-does-not-miss": on_board(
        trial=works((gpu(0),)), fabric="in progress"
    ),
    "fabric-of-mig": on_board(trial=None, fabric="not started", mig_enabled=True),
    "another-error-on-a-board": on_board(trial=UNKNOWN),
    "3-with-the-closed-module": one_gpu(cards(1), NOT_INITIALIZED),
    "3-that-a-mask-made": full(
        answering(gpu(0, PCIE)), OPEN, trials=(NOT_INITIALIZED, works((gpu(0),), CLEAN))
    ),
    "persistent": full(answering(gpu(0, persistence=True)), cards(1)),
    "desktop": full(
        answering(gpu(0, "NVIDIA GeForce RTX 4090", persistence=False)), cards(1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("seen", NOT_HERE.values(), ids=NOT_HERE)
def test_what_another_layer_explains_or_nothing_is_wrong_with(seen: Evidence) -> None:
    verdict = judge(seen, driver.CHECKS)
    assert (verdict.failure, verdict.warnings) == (None, ())


def said(seen: Evidence) -> tuple[str, str]:
    finding = judge(seen, ROWS).failure
    assert finding is not None
    return finding.what, finding.fix


def test_a_mismatch_names_both_versions() -> None:
    what, _ = said(mismatch("565.57.01"))
    assert what == (
        "NVML 18: Driver/library version mismatch; kernel module 550.54.15, library 565.57.01"
    )


def test_a_mismatch_with_a_module_that_does_not_show() -> None:
    what, _ = said(cheap(MISMATCH, replace(cards(1), kernel_driver=None)))
    assert what.endswith("; kernel module unknown")


def test_what_nvml_said_of_a_missing_module_is_quoted() -> None:
    plain = "NVIDIA GPU (10de:2684) at 0000:01:00.0, but the host loaded no NVIDIA driver"
    assert said(bound_to(None))[0] == plain
    assert said(cheap(NOT_LOADED, bound_to(None).hardware))[0] == (
        f"{plain}; NVML 9: Driver Not Loaded"
    )


@pytest.mark.parametrize(
    ("device_id", "package"),
    [
        ("2b85", "nvidia-driver-580-open "),
        ("1b06", "nvidia-driver-580 "),
        ("2684", "ubuntu-drivers"),
    ],
)
def test_the_driver_to_install_is_one_that_drives_the_card(device_id: str, package: str) -> None:
    what, fix = said(bound_to(None, device_id))
    assert f"10de:{device_id}" in what
    assert package in fix


def test_the_card_to_take_back_is_named() -> None:
    assert "unset-override 0000:01:00.0 " in said(bound_to("vfio-pci"))[1]


def test_the_library_that_crashed_is_named() -> None:
    crashed = ended("crashed", "killed by SIGSEGV")
    assert "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1" in said(full(crashed, cards(1)))[1]
    assert "any libnvidia-ml.so.1" in said(cheap(crashed, cards(1)))[1]


def old_card(device_id: str) -> Evidence:
    hardware = replace(NO_CARD, pci=(PciDevice("0000:05:00.0", device_id, None),), modules=())
    return cheap(NO_NVML, hardware)


@pytest.mark.parametrize(
    ("device_id", "branch"),
    [
        ("102d", 470),  # Tesla K80
        ("1028", 470),
        ("128b", 470),  # GT 710
        ("11c0", 470),  # GTX 660
        ("0fc0", 470),
        ("0dc4", 390),  # GTS 450
        ("1080", 390),  # GTX 580
        ("1201", 390),  # GTX 560
        ("1340", 580),
        ("1b06", 580),
    ],
)
def test_the_last_driver_of_an_old_card(device_id: str, branch: int) -> None:
    assert f"apt install nvidia-driver-{branch} " in said(old_card(device_id))[1]


@pytest.mark.parametrize(
    ("capability", "branch"), [((3, 7), "470"), ((3, 5), "470"), ((2, 1), "390"), ((5, 0), None)]
)
def test_a_driver_that_is_the_cards_last_is_not_replaced(capability, branch) -> None:
    kepler = gpu(0, "Tesla K80", compute_capability=capability)
    what, fix = said(cheap(answering(kepler), OLD))
    assert "on the host" in what
    assert ("apt install" in fix) is (branch is None)
    assert branch is None or fix.startswith(f"none: {branch} is this card's last driver")


def test_the_fabric_manager_has_the_drivers_version() -> None:
    what, fix = said(on_board(fabric="in progress"))
    assert what == ("CUDA 802: CUDA_ERROR_SYSTEM_NOT_READY; GPU 0: NVSwitch fabric in progress")
    assert "nvidia-fabricmanager-550 " in fix
    assert "550.54.15" in fix


@pytest.mark.parametrize(("platform", "place"), [("docker", "on the host"), ("wsl2", "on Windows")])
def test_a_driver_is_updated_where_it_is_installed(platform: str, place: str) -> None:
    seen = Evidence(machine(answering(gpu(0)), OLD, platform=platform), {})
    assert said(seen)[1].startswith(place)


def test_codes_and_words_are_quoted() -> None:
    assert said(cheap(nvml_fails(20, "Insufficient Memory"), cards(1)))[0] == (
        "NVML 20: Insufficient Memory"
    )
    assert "CUDA 999: CUDA_ERROR_UNKNOWN" in said(one_gpu(NO_UVM, UNKNOWN))[0]
    assert "no answer within 30 s" in said(FAILURES["hung"][1])[0]
