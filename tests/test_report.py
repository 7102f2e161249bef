"""Lines for people: the first line, the command's line, PyTorch's verdict, changes, devices."""

from __future__ import annotations

import pytest

from launcher import report
from launcher.machine import DriverFailure, GpuReport, LostGpu, Machine
from launcher.model import Finding, Probe
from tests.machines import (
    CASES,
    NO_CARD,
    NO_LIBRARY,
    NOT_INJECTED,
    Case,
    answering,
    gpu,
    machine,
    mig_gpu,
)

EIGHT = CASES["h100-8x"]
MIXED = machine(answering(gpu(0, "NVIDIA A40"), gpu(1, "NVIDIA L4"), gpu(2, "NVIDIA A40")))
LOST = LostGpu(1, "GPU is lost", 15)


# --- one line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (EIGHT.machine, "8 × NVIDIA H100 80GB HBM3, driver 550.54.15, CUDA up to 12.4"),
        (MIXED, "2 × NVIDIA A40, 1 × NVIDIA L4, driver 550.54.15, CUDA up to 12.4"),
        (machine(answering(gpu(0, "NVIDIA L4"), lost=(LOST,))), "1 × NVIDIA L4, 1 lost, driver"),
        (machine(GpuReport(failure=NO_LIBRARY), NO_CARD), "no usable GPU (no NVIDIA GPU and no"),
        (machine(GpuReport(failure=NO_LIBRARY), NOT_INJECTED), "started without them"),
        (machine(answering()), "no usable GPU (the driver works and counts no GPU)"),
        (
            machine(GpuReport(failure=DriverFailure("hung", "no answer within 2 s"))),
            "does not answer: no answer within 2 s",
        ),
    ],
)
def test_what_was_found_in_one_line(found: Machine, said: str) -> None:
    line = report.first_line(found)
    assert said in line
    assert line.startswith("launcher: ")
    assert "\n" not in line


def test_a_command_is_told_what_cuda_sees() -> None:
    (line,) = report.summary_lines(EIGHT.machine, EIGHT.plan())
    assert line.endswith("; CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7")


def test_a_command_without_gpus_is_told_of_no_variable() -> None:
    case = CASES["not-injected"]
    (line,) = report.summary_lines(case.machine, case.plan())
    assert "CUDA_VISIBLE_DEVICES" not in line


def test_a_long_list_is_counted() -> None:
    case = Case(EIGHT.machine, {"LAUNCHER_GPU_IDS": "uuid"})
    (line,) = report.summary_lines(case.machine, case.plan())
    assert "… (8 entries)" in line
    assert len(line) < 200


# --- PyTorch's verdict -----------------------------------------------------------------------

TORCH = {"torch": "2.6.0+cu124", "cuda": "12.4", "devices": 8, "failures": {}}


@pytest.mark.parametrize(
    ("result", "expected", "verdict"),
    [
        (TORCH, 8, "PyTorch 2.6.0+cu124: CUDA works on 8 of 8 devices"),
        ({**TORCH, "devices": 1}, 1, "CUDA works on 1 of 1 devices"),
        ({**TORCH, "devices": 7}, 8, "CUDA works on 7 of 8 devices"),
        ({**TORCH, "devices": 2}, 0, "CUDA works on 2 of 2 devices"),
        (
            {**TORCH, "failures": {3: "no kernel image is available"}},
            8,
            "CUDA works on 7 of 8 devices; cuda:3: no kernel image is available",
        ),
        ({**TORCH, "devices": 0, "error": "Error 802"}, 8, "works on 0 of 8 devices: Error 802"),
        (
            {**TORCH, "devices": 0, "error": "No CUDA GPUs"},
            0,
            "no CUDA device, computes on the CPU",
        ),
        ({**TORCH, "devices": 0}, 0, "no CUDA device, computes on the CPU"),
        ({**TORCH, "devices": 0}, 8, "CUDA works on 0 of 8 devices"),
        (
            {"torch": "2.6.0+cpu", "cuda": None, "devices": 0, "failures": {}},
            8,
            "PyTorch 2.6.0+cpu: a build without CUDA, computes on the CPU",
        ),
        ({"torch": None, "error": "No module named 'torch'"}, 8, "cannot be used: No module named"),
        ({}, 8, "cannot be used"),
    ],
)
def test_the_verdict(result: dict, expected: int, verdict: str) -> None:
    line = report.verdict_line(result, expected)
    assert verdict in line
    assert line.startswith("launcher: PyTorch ")
    assert "\n" not in line


# --- changes ---------------------------------------------------------------------------------

JUPYTER_UP, JUPYTER_DOWN = Probe("jupyter", True, "answers"), Probe("jupyter", False, "refused")
SSH_UP, SSH_DOWN = Probe("ssh", True, "listens"), Probe("ssh", False, "does not listen")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([JUPYTER_UP, SSH_UP], [JUPYTER_UP, SSH_UP], []),
        ([JUPYTER_UP, SSH_UP], [JUPYTER_DOWN, SSH_UP], ["jupyter is not ready: refused"]),
        ([JUPYTER_DOWN], [JUPYTER_DOWN], []),
        ([JUPYTER_DOWN, SSH_UP], [JUPYTER_UP, SSH_UP], ["jupyter is ready again"]),
        ([JUPYTER_DOWN, SSH_UP], [JUPYTER_UP, SSH_DOWN],
         ["jupyter is ready again", "ssh is not ready: does not listen"]),
        ([], [JUPYTER_UP], []),
        ([], [JUPYTER_DOWN], ["jupyter is not ready: refused"]),
    ],
)  # fmt: skip
def test_only_what_changed_is_said(before: list, after: list, said: list[str]) -> None:
    assert list(report.changes(before, after)) == [f"launcher: {line}" for line in said]


# --- devices ---------------------------------------------------------------------------------


def test_every_gpu_has_its_line_in_the_order_of_indices() -> None:
    found = machine(answering(gpu(0), gpu(2), lost=(LOST,)))
    _, *rows = report.device_lines(found)
    assert [row.split()[0] for row in rows] == ["0", "1", "2"]
    assert "LOST: GPU is lost" in rows[1]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "80 GiB"),
        ({}, "sm_90"),
        ({}, "00000000:10:00.0"),
        ({"memory_bytes": None}, " - "),
        ({"compute_capability": None}, " - "),
        ({"compute_capability": (12, 0)}, "sm_120"),
        ({"name": "x" * 90}, "x" * 34),
    ],
)
def test_a_row_of_the_table(changes: dict, text: str) -> None:
    _, row = report.device_lines(machine(answering(gpu(0, **changes))))
    assert text in row


def test_mig_instances_are_counted() -> None:
    _, row = report.device_lines(machine(answering(mig_gpu(0, 7))))
    assert "MIG×7" in row


def test_the_driver_is_named_even_where_nvml_is_silent() -> None:
    found = machine(GpuReport(lost=(LOST,)))
    assert "driver 550.54.15" in report.device_lines(found)[0]  # the kernel module's
    assert "CUDA up to" not in report.device_lines(found)[0]


def test_without_a_gpu_there_is_one_line() -> None:
    (line,) = report.device_lines(machine(GpuReport(failure=NO_LIBRARY), NO_CARD))
    assert "CPU" in line


# --- findings --------------------------------------------------------------------------------


def test_a_finding_says_what_it_means_and_what_mends_it() -> None:
    lines = report.finding_lines(Finding("x.y", "something is wrong", "you cannot", "do this"))
    assert lines == [" ! something is wrong: you cannot", "   fix: do this"]


def test_a_finding_in_colour_has_the_same_words_on_the_same_lines() -> None:
    finding = Finding("x.y", "wrong " * 30, "means", "fix " * 30)
    plain, coloured = report.finding_lines(finding), report.finding_lines(finding, color=True)
    assert [line.replace("\x1b[1;33m", "").replace("\x1b[0m", "") for line in coloured] == plain
    assert "\x1b" in coloured[0]
    assert len(plain) > 4
