"""The layer "runtime" where nothing was given: each cause is the one failure."""

from __future__ import annotations

import pytest

from launcher.checks import LAYERS, judge, runtime
from launcher.checks.facts.how_to_run import cards_in_words
from launcher.model.evidence import Evidence
from launcher.model.machine import GpuReport, Hardware, PciDevice
from testing.evidences import NO_NVML, cheap, nvml_fails
from testing.machines import MODULES, NOT_INJECTED, answering, cards, machine, pci_cards
from testing.values import replace

WSL = Hardware(pci_hidden=True, device_nodes=("/dev/dxg",))
JETSON = Hardware(kernel_driver="540.4.0", device_nodes=("/dev/nvmap",))
BARE = replace(NOT_INJECTED, pci=(), modules=None)  # /sys is masked


ONLY_CONTROL = replace(cards(1), device_nodes=("/dev/nvidia-uvm", "/dev/nvidiactl"))


def on(platform: str, report: GpuReport, hardware: Hardware, **environ: str) -> Evidence:
    return Evidence(machine(report, hardware, platform=platform), environ)


# (the check, evidence, words of what was seen, words of the fix)
FAILURES = [
    ("wsl_no_libraries", on("wsl2", NO_NVML, WSL), "/dev/dxg", "wsl --update"),
    (
        "wsl_blocked",
        on("wsl2", nvml_fails(17, "GPU access blocked by the operating system"), WSL),
        "NVML 17: GPU access blocked",
        "WDDM",
    ),
    ("jetson", on("docker", NO_NVML, JETSON), "/dev/nvmap", "--runtime nvidia"),
    (
        "gvisor_driver",
        on("gvisor", nvml_fails(999, "Unknown Error"), replace(cards(1), pci=())),
        "NVML 999: Unknown Error",
        "list-supported-drivers",
    ),
    (
        "none",
        cheap(
            replace(answering(), nodes=()),
            ONLY_CONTROL,
            {"NVIDIA_VISIBLE_DEVICES": "none"},
        ),
        "NVIDIA_VISIBLE_DEVICES=none",
        "--gpus all",
    ),
    ("none", on("podman", NO_NVML, NOT_INJECTED, NVIDIA_VISIBLE_DEVICES="none"), "none", "podman"),
    (
        "not_nvidia_runtime",
        on("docker", NO_NVML, NOT_INJECTED, NVIDIA_VISIBLE_DEVICES="0,1"),
        "NVIDIA_VISIBLE_DEVICES=0,1 was not followed",
        "nvidia-ctk runtime configure --runtime=docker",
    ),
    (
        "not_nvidia_runtime",
        on("kubernetes", NO_NVML, NOT_INJECTED, NVIDIA_VISIBLE_DEVICES="GPU-1"),
        "GPU-1",
        "runtimeClassName: nvidia",
    ),
    (
        "kubernetes_not_requested",
        on("kubernetes", NO_NVML, NOT_INJECTED, NVIDIA_VISIBLE_DEVICES="all"),
        "requests no nvidia.com/gpu",
        "nvidia.com/gpu: 1",
    ),
    (
        "void",
        cheap(NO_NVML, NOT_INJECTED, {"NVIDIA_VISIBLE_DEVICES": "void"}),
        "void",
        "--gpus all",
    ),
    ("void", cheap(NO_NVML, NOT_INJECTED, {"NVIDIA_VISIBLE_DEVICES": ""}), "(empty)", "--gpus all"),
    ("not_injected", cheap(NO_NVML, NOT_INJECTED), "and driver 550.54.15, but", "--gpus all"),
    ("not_injected", cheap(NO_NVML, BARE), "NVIDIA driver 550.54.15", "Kubernetes: resources:"),
    ("not_injected", on("podman", NO_NVML, NOT_INJECTED), "started without it", "podman run"),
    ("not_injected", on("runpod", NO_NVML, NOT_INJECTED), "started without it", "RunPod"),
]


@pytest.mark.parametrize(
    ("name", "evidence", "seen", "fix"), FAILURES, ids=[name for name, *_ in FAILURES]
)
def test_each_cause_is_the_one_failure(name: str, evidence: Evidence, seen: str, fix: str) -> None:
    verdict = judge(evidence)
    assert verdict.failure is not None
    assert verdict.failure.id == f"runtime.{name}"
    assert seen in verdict.failure.what
    assert fix in verdict.failure.fix
    assert verdict.exit_status == 10 + LAYERS.index("runtime") + 1
    assert not verdict.failure.what.endswith(".")


def test_every_check_has_its_scenario() -> None:
    """Here those of what was not given; test_runtime has the others, and no row is in neither."""
    assert {f"runtime.{name}" for name, *_ in FAILURES} <= {row.id for row in runtime.CHECKS}


def test_a_library_of_the_image_does_not_hide_it() -> None:
    evidence = cheap(nvml_fails(9, "Driver Not Loaded"), NOT_INJECTED)
    assert (
        judge(evidence, runtime.CHECKS).failure
        == judge(cheap(NO_NVML, NOT_INJECTED), runtime.CHECKS).failure
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pci_cards("2684"), "an NVIDIA GPU (10de:2684)"),
        (
            (PciDevice("0000:01:00.0", "2684", "nvidia", "AD102 [GeForce RTX 4090]"),),
            "an NVIDIA GeForce RTX 4090",
        ),
        (
            (PciDevice("0000:01:00.0", "2330", "nvidia", "GH100 [H100 SXM5 80GB]"),) * 8,
            "8 × NVIDIA H100 SXM5 80GB",
        ),
        ((*pci_cards("2684"), *pci_cards("2330")), "2 NVIDIA GPUs"),
    ],
)
def test_cards_are_named(found: tuple[PciDevice, ...], words: str) -> None:
    assert cards_in_words(Hardware(found, modules=MODULES)) == words
