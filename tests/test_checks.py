"""Why there is no usable GPU: for each row of the table a machine that it is the answer for."""

from __future__ import annotations

import pytest

from launcher.checks import CHECKS, Evidence, diagnose
from launcher.machine import DriverFailure, GpuReport, Hardware, LostGpu
from tests.machines import CASES, NO_CARD, NO_LIBRARY, NOT_INJECTED, answering, cards, gpu

CARD_WITHOUT_DRIVER = Hardware(("10de:2684",), None, ())
NO_CARD_SEEN = Hardware((), "550.54.15", ())  # /sys is masked; the kernel module still shows


def nvml(code: int) -> GpuReport:
    return GpuReport(failure=DriverFailure("nvml", f"what NVML says to {code}", code))


def ended(kind: str, reason: str) -> GpuReport:
    return GpuReport(failure=DriverFailure(kind, reason))


NO_NVML = GpuReport(failure=NO_LIBRARY)
LOST = LostGpu(0, "GPU is lost", 15)

# (the row, what the driver library said, what shows without it, the environment)
SCENARIOS = [
    ("driver.hung", ended("hung", "no answer within 30 s"), cards(1), {}),
    ("driver.crashed", ended("crashed", "killed by SIGSEGV"), cards(1), {}),
    ("runtime.not_injected", NO_NVML, NOT_INJECTED, {}),
    ("runtime.not_injected", NO_NVML, NO_CARD_SEEN, {}),
    ("runtime.no_utility", NO_NVML, cards(2), {}),
    ("driver.not_loaded", NO_NVML, CARD_WITHOUT_DRIVER, {}),
    ("driver.absent", NO_NVML, NO_CARD, {}),
    ("driver.mismatch", nvml(18), cards(1), {}),
    ("driver.not_loaded_nvml", nvml(9), NO_CARD, {}),
    ("runtime.permission", nvml(4), cards(1), {}),
    ("runtime.cgroup", nvml(999), cards(1), {}),
    ("runtime.cgroup", nvml(17), cards(1), {}),
    ("driver.nvml", nvml(10), cards(1), {}),
    ("runtime.no_devices", answering(), NO_CARD_SEEN, {"NVIDIA_VISIBLE_DEVICES": "none"}),
    ("hardware.none", answering(), NO_CARD_SEEN, {"NVIDIA_VISIBLE_DEVICES": "all"}),
    ("hardware.all_lost", answering(lost=(LOST,)), cards(1), {}),
]


@pytest.mark.parametrize(
    ("row", "report", "hardware", "environ"), SCENARIOS, ids=[row for row, *_ in SCENARIOS]
)
def test_each_cause_has_its_row(row, report, hardware, environ) -> None:
    finding = diagnose(Evidence(report, hardware, environ))
    assert finding is not None
    assert finding.id == row
    assert finding.what
    assert finding.means
    assert finding.fix


def test_every_row_is_reached() -> None:
    assert {row for row, *_ in SCENARIOS} == {check.id for check in CHECKS}


def test_ids_are_unique() -> None:
    assert len({check.id for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(answering(gpu(0)), id="healthy"),
        pytest.param(answering(gpu(0), lost=(LOST,)), id="one-of-two-lost"),
    ],
)
def test_where_a_gpu_works_there_is_nothing_to_say(report: GpuReport) -> None:
    assert diagnose(Evidence(report, cards(2), {})) is None


@pytest.mark.parametrize("name", CASES)
def test_a_machine_without_a_usable_gpu_always_has_a_reason(name: str) -> None:
    machine = CASES[name].machine
    finding = diagnose(Evidence(machine.report, machine.hardware, {}))
    assert (finding is None) == bool(machine.report.gpus)


def what(report: GpuReport, hardware: Hardware) -> str:
    finding = diagnose(Evidence(report, hardware, {}))
    assert finding is not None
    return finding.what


@pytest.mark.parametrize("code", [4, 9, 10, 17, 18, 999])
def test_the_drivers_own_words_are_quoted(code: int) -> None:
    assert f"what NVML says to {code}" in what(nvml(code), cards(1))


def test_the_loaders_own_words_are_quoted() -> None:
    assert NO_LIBRARY.reason in what(NO_NVML, cards(1))


@pytest.mark.parametrize(("count", "words"), [(1, "1 NVIDIA GPU "), (8, "8 NVIDIA GPUs ")])
def test_cards_are_counted(count: int, words: str) -> None:
    seen = Hardware(("10de:2330",) * count, "550.54.15", ())
    assert words in what(NO_NVML, seen)
    assert words.strip() in what(NO_NVML, Hardware(("10de:2330",) * count))


def test_every_lost_gpu_is_named() -> None:
    lost = (LOST, LostGpu(1, "Unknown Error", 999))
    said = what(answering(lost=lost), cards(2))
    assert "GPU 0: GPU is lost" in said
    assert "GPU 1: Unknown Error" in said
