"""How GPUs are shared, in words."""

from __future__ import annotations

import pytest

from launcher.gpus.sharing import is_vgpu, ways
from launcher.model.host import Sharing
from launcher.model.machine import GpuReport
from launcher.text.banner import render_banner
from launcher.text.topology import topology_lines
from testing.machines import CASES, answering, gpu
from testing.values import replace

EVERYTHING = Sharing("/tmp/nvidia-mps", ("GPU-1::0",), False, ("CUDA_DEVICE_MEMORY_LIMIT_0=4096m",))
PART = gpu(0, "GRID A100D-20C", vgpu=True)


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("GRID V100D-8C", None, True),
        ("NVIDIA A40-48Q", None, True),
        ("NVIDIA A100-1-5CME", None, True),
        ("NVIDIA L40S-24A", None, True),
        ("NVIDIA A40-48Q", False, False),  # the driver knows
        ("NVIDIA A40", True, True),
        ("NVIDIA A100-SXM4-80GB", None, False),
        ("NVIDIA H100 80GB HBM3", None, False),
        ("NVIDIA GeForce RTX 3090", None, False),
        ("NVIDIA A100-PCIE-40GB", None, False),
        ("Tesla V100-SXM2-16GB", None, False),
    ],
)
def test_a_vgpu_is_told_by_the_driver_or_else_by_its_name(name, told, expected) -> None:
    assert is_vgpu(gpu(0, name, vgpu=told)) is expected


def test_each_way_has_its_sentence() -> None:
    report = answering(gpu(0), gpu(1, "GRID A100D-20C", vgpu=True))
    assert [(way.kind, way.text) for way in ways(report, EVERYTHING)] == [
        ("MPS", "by MPS (/tmp/nvidia-mps): its clients compute at the same time, and share one "
         "fate"),
        ("time slicing", "by time slicing: other containers compute on them by turns, and nobody "
         "divides their memory"),
        ("vGPU", "with other virtual machines (GPU 1: a vGPU, GRID A100D-20C)"),
        ("HAMi", "by a library that divides them: CUDA_DEVICE_MEMORY_LIMIT_0=4096m"),
    ]  # fmt: skip


def test_what_is_not_here_is_not_shared() -> None:
    assert list(ways(GpuReport(), EVERYTHING)) == []
    assert list(ways(answering(gpu(0)), Sharing())) == []
    (by_label,) = ways(answering(gpu(0)), Sharing(time_slicing=True))
    assert by_label.kind == "time slicing"


def test_topo_and_banner_say_so() -> None:
    case = CASES["h100-8x"]
    host = replace(case.machine.host, sharing=Sharing(mps="/tmp/nvidia-mps"))
    shared = replace(case, machine=replace(case.machine, report=answering(PART), host=host))
    lines = topology_lines(shared.machine.report, (), host)
    assert any(line.startswith("shared by MPS (/tmp/nvidia-mps)") for line in lines)
    assert "shared with other virtual machines (GPU 0: a vGPU, GRID A100D-20C)" in lines
    banner = render_banner(shared.machine, shared.plan(), (), 1.0, {})
    assert " Shared    by MPS (/tmp/nvidia-mps): " in banner
    assert " Shared    with other virtual machines" in banner
    assert "Shared" not in render_banner(case.machine, case.plan(), (), 1.0, {})
