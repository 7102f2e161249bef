"""Lines for people: the first line, the command's line, PyTorch's verdict, changes, devices."""

from __future__ import annotations

import pytest

from launcher.checks import judge
from launcher.model.evidence import Evidence, TorchFailure, TorchReport
from launcher.model.machine import DriverFailure, GpuReport, LostGpu, Machine
from launcher.model.plan import Finding
from launcher.text import text as text_text
from testing.machines import (
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
from testing.values import replace

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
        (machine(GpuReport(failure=NO_LIBRARY), NO_CARD), "no usable GPU (no NVIDIA GPU"),
        (machine(GpuReport(failure=NO_LIBRARY), NOT_INJECTED), "started without"),
        (machine(answering()), "no usable GPU ("),
        (
            machine(GpuReport(failure=DriverFailure("hung", "no answer within 2 s"))),
            "does not answer: no answer within 2 s",
        ),
    ],
)
def test_what_was_found_in_one_line(found: Machine, said: str) -> None:
    line = text_text.first_line(found, judge(Evidence(found, {})).failure)
    assert said in line
    assert line.startswith("launcher: ")
    assert "\n" not in line


def test_no_gpu_on_purpose_is_no_fault() -> None:
    line = text_text.first_line(EIGHT.machine, None, cpu_only=True)
    assert line == "launcher: no GPU, as LAUNCHER_GPUS=none asks; starting the services …"


def summary(case: Case) -> list[str]:
    failure = judge(Evidence(case.machine, dict(case.environ))).failure
    return text_text.summary_lines(case.machine, case.plan(), failure)


def test_a_command_is_told_what_cuda_sees() -> None:
    (line,) = summary(EIGHT)
    assert line.endswith("; CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7")


def test_a_command_is_told_what_is_wrong_and_what_mends_it() -> None:
    line, fix = summary(CASES["not-injected"])
    assert "CUDA_VISIBLE_DEVICES" not in line
    assert "started without" in line
    assert "fix: docker run --gpus all" in fix


def test_a_command_whose_value_hides_every_gpu_is_told_so() -> None:
    _, what, fix = summary(Case(EIGHT.machine, {"CUDA_VISIBLE_DEVICES": ""}))
    assert "CUDA_VISIBLE_DEVICES" in what
    assert fix.startswith("launcher:   fix: ")


def test_to_a_command_a_machine_without_a_gpu_is_no_fault() -> None:
    (line,) = summary(Case(machine(GpuReport(failure=NO_LIBRARY), NO_CARD)))
    assert "no usable GPU" in line


def test_a_long_list_is_counted() -> None:
    (line,) = summary(Case(EIGHT.machine, {"LAUNCHER_GPU_IDS": "uuid"}))
    assert "… (8 entries)" in line
    assert len(line) < 200


# --- PyTorch's verdict -----------------------------------------------------------------------

TORCH = TorchReport("ok", version="2.6.0+cu124", cuda="12.4", devices=8)
NO_KERNEL = TorchFailure(3, "no kernel image is available", 209)


@pytest.mark.parametrize(
    ("torch", "expected", "verdict"),
    [
        (TORCH, 8, "PyTorch 2.6.0+cu124: CUDA works on 8 of 8 devices"),
        (replace(TORCH, devices=1), 1, "CUDA works on 1 of 1 device"),
        (replace(TORCH, devices=7), 8, "CUDA works on 7 of 8 devices"),
        (replace(TORCH, devices=2), 0, "CUDA works on 2 of 2 devices"),
        (
            replace(TORCH, failures=(NO_KERNEL,)),
            8,
            "CUDA works on 7 of 8 devices; cuda:3: no kernel image is available",
        ),
        (replace(TORCH, devices=0, error="Error 802"), 8, "works on 0 of 8 devices: Error 802"),
        (
            replace(TORCH, devices=0, error="No CUDA GPUs"),
            0,
            "no CUDA device, computes on the CPU",
        ),
        (replace(TORCH, devices=0), 0, "no CUDA device, computes on the CPU"),
        (replace(TORCH, devices=0), 8, "CUDA works on 0 of 8 devices"),
        (
            TorchReport("ok", version="2.6.0+cpu"),
            8,
            "PyTorch 2.6.0+cpu: a build without CUDA, computes on the CPU",
        ),
        (
            TorchReport("missing", error="No module named 'torch'"),
            8,
            "PyTorch cannot be used: No module named",
        ),
        (None, 8, "CUDA does not work, for the reason above"),
    ],
)
def test_the_verdict(torch: TorchReport | None, expected: int, verdict: str) -> None:
    line = text_text.deep_line(torch, None, expected)
    assert verdict in line
    assert line.startswith("launcher: ")
    assert "\n" not in line


@pytest.mark.parametrize(("layer", "repeated"), [("cuda", True), ("pytorch", False)])
def test_what_is_broken_is_said_once_with_its_fix(layer: str, repeated: bool) -> None:
    failure = Finding(f"{layer}.broken", "what was seen", "what it means", "what to type")
    line = text_text.deep_line(replace(TORCH, devices=0, error="Error 802"), failure, 8)
    assert line.endswith("; fix: what to type")
    assert ("what was seen: what it means" in line) is repeated


# --- devices ---------------------------------------------------------------------------------


def test_every_gpu_has_its_line_in_the_order_of_indices() -> None:
    found = machine(answering(gpu(0), gpu(2), lost=(LOST,)))
    _, *rows = text_text.device_lines(found)
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
    _, row = text_text.device_lines(machine(answering(gpu(0, **changes))))
    assert text in row


def test_mig_instances_are_counted() -> None:
    _, row, *instances = text_text.device_lines(machine(answering(mig_gpu(0, 7))))
    assert "MIG×7" in row
    assert len(instances) == 7


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "MIG-00000000  1g.10gb       10.0 GiB"),
        ({"memory_bytes": None}, "MIG-00000000  1g.10gb       memory not told"),
        ({"memory_free": 4 << 30}, "MIG-00000000  1g.10gb       4.0 of 10.0 GiB free"),
        (
            {"memory_free": 4 << 30, "processes": 1},
            "MIG-00000000  1g.10gb       4.0 of 10.0 GiB free, 1 process",
        ),
        (
            {"uuid": f"MIG-{gpu(0).uuid}/7/0", "memory_free": 0, "processes": 2},
            "…/7/0         1g.10gb       0.0 of 10.0 GiB free, 2 processes",
        ),
    ],
)
def test_each_instance_has_its_line(changes: dict[str, object], line: str) -> None:
    cut = mig_gpu(0, 1)
    mig = replace(cut.mig_devices[0], **changes)
    lines = text_text.device_lines(machine(answering(replace(cut, mig_devices=(mig,)))))
    assert lines[2] == f"     {line}"


def test_many_instances_are_only_counted() -> None:
    lines = text_text.device_lines(machine(answering(*(mig_gpu(index, 7) for index in range(8)))))
    assert len(lines) == 1 + 8


def test_the_driver_is_named_even_where_nvml_is_silent() -> None:
    found = machine(GpuReport(lost=(LOST,)))
    assert "driver 550.54.15" in text_text.device_lines(found)[0]  # the kernel module's
    assert "CUDA up to" not in text_text.device_lines(found)[0]


def test_without_a_gpu_there_is_one_line() -> None:
    (line,) = text_text.device_lines(machine(GpuReport(failure=NO_LIBRARY), NO_CARD))
    assert "CPU" in line


# --- findings --------------------------------------------------------------------------------


def test_a_finding_says_what_it_means_and_what_mends_it() -> None:
    lines = text_text.finding_lines(Finding("x.y", "something is wrong", "you cannot", "do this"))
    assert lines == [" ! something is wrong: you cannot", "   fix: do this"]


def test_a_finding_in_colour_has_the_same_words_on_the_same_lines() -> None:
    finding = Finding("x.y", "wrong " * 30, "means", "fix " * 30)
    plain, coloured = text_text.finding_lines(finding), text_text.finding_lines(finding, color=True)
    assert [line.replace("\x1b[1;33m", "").replace("\x1b[0m", "") for line in coloured] == plain
    assert "\x1b" in coloured[0]
    assert len(plain) > 4
