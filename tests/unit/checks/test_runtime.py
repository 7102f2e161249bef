"""The layer "runtime": for each of its checks, evidence that it alone is the answer for."""

from __future__ import annotations

import pytest

from launcher.checks import LAYERS, judge, runtime
from launcher.model.evidence import AS_GIVEN, CudaTrial, Evidence, Library
from launcher.model.machine import DeviceNode, GpuReport, Hardware
from testing.evidences import (
    NO_NVML,
    cheap,
    fails,
    full,
    healthy,
    ids,
    nvml_fails,
    opened,
    real,
    works,
)
from testing.machines import (
    DEV,
    answering,
    cards,
    gpu,
    mig_gpu,
)
from testing.values import replace
from tests.unit.checks import test_injection

NO_CUDA = CudaTrial(
    AS_GIVEN,
    "library",
    reason="libcuda.so.1: cannot open shared object file: No such file or directory",
)


def without(*paths: str, count: int = 2) -> Hardware:
    found = cards(count)
    left = tuple(path for path in found.device_nodes if path not in paths)
    return replace(found, device_nodes=left)


def nodes(report: GpuReport, **faults: str) -> GpuReport:
    return replace(report, nodes=opened(cards(2), **faults))


def two(**changes: object) -> GpuReport:
    return replace(answering(gpu(0, minor=0), gpu(1, minor=1)), **changes)  # type: ignore[arg-type]


def failing(evidence: Evidence, code: int, name: str) -> Evidence:
    return replace(evidence, trials=(fails(code, name),), torch=None)


def owned(mode: int, uid: int = 0, gid: int = 44) -> GpuReport:
    hardware = cards(2)
    found = tuple(DeviceNode(path, "", uid, gid, mode) for path in hardware.device_nodes)
    return replace(two(), nodes=found)


# A Jetson with JetPack 6: NVML answers, and there is no node of a card.
JETSON = Hardware(device_nodes=("/dev/nvmap",))


def jetson(mode: int) -> GpuReport:
    orin = gpu(0, "Orin (nvgpu)", pci_bus_id=None)
    return replace(answering(orin), nodes=(DeviceNode("/dev/nvmap", "", 0, 44, mode),))


OLD_LINK = "libcuda.so.535.104.05"
STALE = replace(
    full(two(), cards(2)),
    trials=(NO_CUDA,),
    libraries=(
        Library(
            "libcuda.so.1", "/usr/lib64/libcuda.so.1", "ld.so.cache", "dangling", None, OLD_LINK
        ),
        real("libnvidia-ml.so.1"),
    ),
)
ONLY_CUDA = replace(full(NO_NVML, cards(1)), libraries=(real("libcuda.so.1"),))
UTILITY = {"NVIDIA_DRIVER_CAPABILITIES": "utility"}
MIG = answering(mig_gpu(0, 2))
RACK = answering(gpu(0, "NVIDIA GB200"))

# (the check, evidence, words of what was seen, words of the fix)
FAILURES = [
    (
        "control_node_missing",
        cheap(NO_NVML, without("/dev/nvidiactl")),
        "/dev/nvidia0 is here, /dev/nvidiactl is not",
        "--device /dev/nvidiactl",
    ),
    (
        "user_permission",
        cheap(owned(0o660), cards(2)),  # judged below as the user
        "user dev may not open /dev/nvidia0 (mode 0660, 0:44)",
        "docker run --group-add 44 …   (Compose: group_add: [44]); or for all, on the host: echo "
        "options nvidia NVreg_DeviceFileMode=0666",
    ),
    (
        "user_permission",  # no group may: joining one is no help
        cheap(owned(0o600), cards(2)),
        "user dev may not open /dev/nvidia0 (mode 0600, 0:44)",
        "on the host: echo options nvidia NVreg_DeviceFileMode=0666",
    ),
    (
        "user_permission",
        cheap(jetson(0o660), JETSON),
        "user dev may not open /dev/nvmap (mode 0660, 0:44)",
        "docker run --group-add 44",
    ),
    (
        "permission",
        cheap(nvml_fails(4, "Insufficient Permissions"), cards(1)),
        "NVML 4:",
        "nvidia-ctk",
    ),
    (
        "permission",
        failing(full(nodes(two(), nvidiactl="EACCES"), cards(2)), 999, "CUDA_ERROR_UNKNOWN"),
        "/dev/nvidiactl: EACCES",
        "keep-groups",
    ),
    (
        "cgroup_lost",
        replace(
            cheap(nodes(nvml_fails(999, "Unknown Error"), nvidiactl="EPERM"), cards(2)),
            worked_before=True,
        ),
        "worked when this container started; now NVML 999: Unknown Error; /dev/nvidiactl: EPERM",
        "create-dev-char-symlinks",
    ),
    (
        "cgroup",
        cheap(nodes(nvml_fails(999, "Unknown Error"), nvidiactl="EPERM"), cards(2)),
        "NVML 999: Unknown Error; /dev/nvidiactl: EPERM",
        "no-cgroups=false",
    ),
    ("cgroup", cheap(nvml_fails(17, "blocked"), cards(2)), "NVML 17: blocked", "--runtime=nvidia"),
    (
        "cgroup",
        failing(full(nodes(two(), nvidia_uvm="EPERM"), cards(2)), 999, "CUDA_ERROR_UNKNOWN"),
        "/dev/nvidia-uvm: EPERM",
        "--gpus all",
    ),
    (
        "dead_node",
        failing(full(nodes(two(), nvidia1="EIO"), cards(2)), 999, "CUDA_ERROR_UNKNOWN"),
        "/dev/nvidia1: EIO",
        "gpu-reset",
    ),
    (
        "dead_node",
        cheap(nodes(nvml_fails(999, "Unknown Error"), nvidiactl="EIO"), cards(2)),
        "/dev/nvidiactl: EIO",
        "dmesg",
    ),
    (
        "nvml_unknown",
        cheap(nodes(nvml_fails(999, "Unknown Error")), cards(2)),
        "NVML 999: Unknown Error; /dev/nvidiactl opens",
        "nvidia-smi fails on the host too",
    ),
    ("stale_cdi", STALE, OLD_LINK, "cdi generate"),
    (
        "no_libraries",
        replace(full(NO_NVML, cards(1)), libraries=(), trials=(NO_CUDA,)),
        "neither libnvidia-ml.so.1 nor libcuda.so.1",
        "--gpus all",
    ),
    (
        "no_compute",
        replace(
            full(two(), cards(2)),
            libraries=(real("libnvidia-ml.so.1"),),
            trials=(NO_CUDA,),
            environ=UTILITY,
        ),
        "libcuda.so.1: cannot open shared object file: No such file or directory; "
        "NVIDIA_DRIVER_CAPABILITIES=utility",
        "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    ("no_utility", cheap(NO_NVML, cards(1)), "libnvidia-ml.so.1: cannot open", "compute,utility"),
    (
        "no_utility",
        replace(ONLY_CUDA, trials=(fails(999, "CUDA_ERROR_UNKNOWN"),)),
        "libnvidia-ml.so.1: cannot open",
        "compute,utility",
    ),
    (
        "uvm_node_missing",
        cheap(two(), without("/dev/nvidia-uvm")),
        "/dev/nvidia-uvm is not",
        "modprobe",
    ),
    (
        "uvm_node_missing",
        failing(full(two(), without("/dev/nvidia-uvm")), 999, "CUDA_ERROR_UNKNOWN"),
        "CUDA 999: CUDA_ERROR_UNKNOWN",
        "nvidia-modprobe -u",
    ),
    (
        "gpu_node_missing",
        failing(full(two(), without("/dev/nvidia1")), 999, "CUDA_ERROR_UNKNOWN"),
        "NVML lists 2 GPUs; not here: /dev/nvidia1",
        "--device",
    ),
    (
        "gpu_node_missing",
        cheap(answering(), replace(without("/dev/nvidia0", count=1), pci=(), pci_hidden=True)),
        "NVML counts no GPU",
        "--gpus all",
    ),
    (
        "gpu_node_missing",  # as on a real H200: the card shows, and the kernel module started it
        cheap(answering(), replace(without("/dev/nvidia0", count=1), started=(0,))),
        "/dev/nvidia0 not; NVML counts no GPU",
        "--gpus all",
    ),
    (
        "mig_caps",
        failing(full(MIG, cards(1)), 100, "CUDA_ERROR_NO_DEVICE"),
        "2 MIG instances, no /dev/nvidia-caps/nvidia-cap*; CUDA 100: CUDA_ERROR_NO_DEVICE",
        f'device={MIG.gpus[0].mig_uuids[0]}"',
    ),
    (
        "imex_channel",
        failing(full(RACK, cards(1)), 800, "CUDA_ERROR_NOT_PERMITTED"),
        "NVIDIA GB200",
        "NVIDIA_IMEX_CHANNELS=0",
    ),
]

FAILURES.append(
    ("threads_forbidden", healthy(refused_calls=("clone3",)), "clone3", "20.10.10 at least")
)

LEAKING = {"NVIDIA_VISIBLE_DEVICES": gpu(0).uuid}
WARNINGS = [
    ("no_management", replace(ONLY_CUDA, trials=(works((gpu(0),)),)), "libnvidia-ml", "utility"),
    (
        "leak",
        healthy(environ=LEAKING),
        "2 GPUs are here, NVIDIA_VISIBLE_DEVICES lists 1",
        gpu(0).uuid,
    ),
    ("leak", healthy(environ={"NVIDIA_VISIBLE_DEVICES": "3"}), "lists 1", "--privileged"),
    (  # a device plugin's name of a GPU that is shared by time slicing
        "leak",
        healthy(environ={"NVIDIA_VISIBLE_DEVICES": f"{gpu(0).uuid}::3"}),
        "lists 1",
        f"CUDA_VISIBLE_DEVICES={gpu(0).uuid};",
    ),
    (
        "sysfs_hidden",
        full(two(), replace(cards(2), pci=(), pci_hidden=True)),
        "/sys/bus/pci",
        "/sys",
    ),
]


@pytest.mark.parametrize(("name", "evidence", "seen", "fix"), FAILURES, ids=ids(FAILURES))
def test_each_cause_is_the_one_failure(name: str, evidence: Evidence, seen: str, fix: str) -> None:
    verdict = judge(replace(evidence, user=DEV))
    assert verdict.failure is not None
    assert verdict.failure.id == f"runtime.{name}"
    assert seen in verdict.failure.what
    assert fix in verdict.failure.fix
    assert verdict.exit_status == 10 + LAYERS.index("runtime") + 1
    assert not verdict.failure.what.endswith(".")


@pytest.mark.parametrize(("name", "evidence", "seen", "fix"), WARNINGS, ids=ids(WARNINGS))
def test_each_warning_is_no_failure(name: str, evidence: Evidence, seen: str, fix: str) -> None:
    verdict = judge(evidence)
    assert verdict.failure is None
    found = {warning.id: warning for warning in verdict.warnings}[f"runtime.{name}"]
    assert seen in found.what
    assert fix in found.fix


def test_every_check_has_its_scenario() -> None:
    failures = {check.id for check in runtime.CHECKS if not check.warning}
    warnings = {check.id for check in runtime.CHECKS if check.warning}
    not_given = {f"runtime.{name}" for name, *_ in test_injection.FAILURES}
    assert {f"runtime.{name}" for name in ids(FAILURES)} == failures - not_given
    assert {f"runtime.{name}" for name in ids(WARNINGS)} == warnings


def seen_of_runtime(evidence: Evidence) -> set[str]:
    return {check.id for check in runtime.CHECKS if check.seen(evidence)}


@pytest.mark.parametrize(
    "evidence",
    [
        healthy(),
        cheap(two(), cards(2)),
        cheap(two(), cards(2), {"NVIDIA_VISIBLE_DEVICES": "all"}),
        # What the device plugin sets where it gives devices by CDI, or by mounts.
        healthy(environ={"NVIDIA_VISIBLE_DEVICES": "void"}),
        healthy(environ={"NVIDIA_VISIBLE_DEVICES": "/var/run/nvidia-container-devices"}),
        healthy(environ={"NVIDIA_VISIBLE_DEVICES": "nvidia.com/gpu=all"}),
        # Nothing is left out by mistake: no UVM without "compute".
        cheap(two(), without("/dev/nvidia-uvm"), UTILITY),
        # A machine without device nodes, on which NVML works: no evidence against it.
        cheap(two(), Hardware()),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(evidence: Evidence) -> None:
    assert seen_of_runtime(evidence) == set()


@pytest.mark.parametrize(
    ("report", "code", "name", "node"),
    [
        (MIG, 100, "CUDA_ERROR_NO_DEVICE", "/dev/nvidia-caps/nvidia-cap21"),
        (RACK, 800, "CUDA_ERROR_NOT_PERMITTED", "/dev/nvidia-caps-imex-channels/channel0"),
    ],
)
def test_what_was_given_is_not_missed(report: GpuReport, code: int, name: str, node: str) -> None:
    missing = cards(1)
    given = replace(missing, device_nodes=(*missing.device_nodes, node))
    assert seen_of_runtime(failing(full(report, missing), code, name))
    assert not seen_of_runtime(failing(full(report, given), code, name))
