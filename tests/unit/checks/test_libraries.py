"""The layer "libraries": for each of its checks, evidence that it alone is the answer for."""

from __future__ import annotations

import pytest

from launcher.checks import LAYERS, judge, libraries
from launcher.model.evidence import (
    AS_GIVEN,
    CLEAN,
    NO_MASKS,
    OWN_LIBRARY,
    CudaTrial,
    Evidence,
    Library,
)
from launcher.model.host import Preload
from launcher.model.machine import DriverFailure, GpuReport, Hardware
from testing.evidences import NO_NVML, fails, full, healthy, ids, nvml_fails, real, works
from testing.machines import answering, cards, gpu
from testing.values import replace

CUDA, NVML = "libcuda.so.1", "libnvidia-ml.so.1"
GPUS = (gpu(0), gpu(1))
FOLDER = "/usr/lib/x86_64-linux-gnu"
NOT_FOUND = "cannot open shared object file: No such file or directory"


def library(
    path: str, source: str, kind: str, version: str | None = None, **more: object
) -> Library:
    name = CUDA if "libcuda" in path else NVML
    return Library(name, path, source, kind, version, **more)  # type: ignore[arg-type]


def first(taken: Library, *others: Library) -> tuple[Library, ...]:
    """Return an inventory in which `taken` comes before the driver's own libraries."""
    own = (replace(real(CUDA), taken=False), real(NVML))
    return (replace(taken, taken=True), *others, *own)


def cured(code: int, name: str, taken: Library, **changes: object) -> Evidence:
    """Return evidence in which CUDA fails with `taken`, and works with the driver's own."""
    trials = (fails(code, name), works(GPUS, OWN_LIBRARY), works(GPUS, CLEAN))
    return replace(healthy(), libraries=first(taken), trials=trials, **changes)  # type: ignore[arg-type]


def unloadable(reason: str, *found: Library) -> Evidence:
    trial = CudaTrial(AS_GIVEN, "library", reason=reason)
    return replace(healthy(), libraries=(*found, real(NVML)), trials=(trial,), torch=None)


STUB = library("/usr/local/cuda/lib64/stubs/libcuda.so.1", "LD_LIBRARY_PATH", "stub")
COMPAT = library(
    "/usr/local/cuda/compat/libcuda.so.1",
    "LD_LIBRARY_PATH",
    "compat",
    "575.57.08",
    target="/usr/local/cuda/compat/libcuda.so.575.57.08",
)
OTHER = library("/opt/conda/lib/libcuda.so.1", "LD_LIBRARY_PATH", "real", "535.104.05")
PACKAGED = library(f"{FOLDER}/{CUDA}", "ld.so.cache", "real", "535.104.05")
PRELOADED = library("/opt/fake/libcuda.so.1", "LD_PRELOAD", "real", "535.104.05")
PATHS = {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64/stubs:/usr/local/cuda/lib64:/opt/conda/lib/"}
EMPTY = library(f"{FOLDER}/{CUDA}", "ld.so.cache", "empty", taken=True)
GKE = library(f"/usr/local/nvidia/lib64/{CUDA}", "known directory", "real", "550.54.15")
UNLINKED = Library(
    "libcuda.so.550.54.15",
    f"{FOLDER}/libcuda.so.550.54.15",
    "default directory",
    "real",
    "550.54.15",
)
WSL = Hardware(pci_hidden=True, device_nodes=("/dev/dxg",))
SECOND_NVML = library(f"/opt/lib/{NVML}", "ld.so.cache", "real", "565.57.01", taken=True)

# (the check, evidence, words of what was seen, words of the fix)
VGPU = "/usr/local/vgpu/libvgpu.so"


def with_preloads(seen: Evidence, *preloads: Preload) -> Evidence:
    host = seen.machine.host._replace(preloads=preloads)
    return seen._replace(machine=seen.machine._replace(host=host))


def hung_with(*preloads: Preload, outcome: str = "hung") -> Evidence:
    """Return evidence in which CUDA hangs in each trial."""
    hung = tuple(CudaTrial(how, outcome, reason="no answer") for how in (AS_GIVEN, CLEAN))
    return with_preloads(replace(healthy(), trials=hung, torch=None), *preloads)


FAILURES = [
    ("system_preload", hung_with(Preload(VGPU)), VGPU, "/etc/ld.so.preload"),
    ("system_preload", hung_with(Preload(VGPU), outcome="crashed"), "CUDA crashes", "HAMi"),
    (
        "stub",
        cured(34, "CUDA_ERROR_STUB_LIBRARY", STUB, environ=PATHS),
        "/usr/local/cuda/lib64/stubs/libcuda.so.1 (by LD_LIBRARY_PATH); CUDA 34",
        "export LD_LIBRARY_PATH=/usr/local/cuda/lib64:/opt/conda/lib/,",
    ),
    (
        "stub",  # as a link in the image made it, and nothing else to take
        replace(
            healthy(),
            libraries=(replace(STUB, source="ld.so.cache", taken=True),),
            trials=(fails(34, "CUDA_ERROR_STUB_LIBRARY"),),
        ),
        "CUDA_ERROR_STUB_LIBRARY",
        "rm /usr/local/cuda/lib64/stubs/libcuda.so.1",
    ),
    (
        "compat_unsupported",
        cured(804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", COMPAT),
        "compat/libcuda.so.575.57.08 (by LD_LIBRARY_PATH); CUDA 804",
        "unset LD_LIBRARY_PATH, and take it out of the image's ENV; or update the driver",
    ),
    (
        "compat",
        cured(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", replace(COMPAT, source="ld.so.cache")),
        "kernel module 550.54.15; CUDA 803",
        "rm /etc/ld.so.conf.d/*compat*.conf",
    ),
    (
        "wsl_shadowed",
        replace(
            full(answering(*GPUS), WSL),
            torch=None,
            libraries=first(PACKAGED),
            trials=(
                fails(100, "CUDA_ERROR_NO_DEVICE"),
                works(GPUS, OWN_LIBRARY),
                works(GPUS, CLEAN),
            ),
        ),
        "not that of /usr/lib/wsl; CUDA 100",
        "purge 'nvidia-*'",
    ),
    (
        "preload",
        cured(
            803,
            "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
            PRELOADED,
            environ={"LD_PRELOAD": "/opt/fake/libcuda.so.1 /usr/lib/libjemalloc.so"},
        ),
        "/opt/fake/libcuda.so.1 (by LD_PRELOAD)",
        "export LD_PRELOAD=/usr/lib/libjemalloc.so",
    ),
    (
        "shadowed",
        cured(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", OTHER, environ=PATHS),
        "/opt/conda/lib/libcuda.so.1 (by LD_LIBRARY_PATH); kernel module 550.54.15; CUDA 803",
        "export LD_LIBRARY_PATH=/usr/local/cuda/lib64/stubs:/usr/local/cuda/lib64,",
    ),
    (
        "second_driver",
        cured(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", PACKAGED),
        "libcuda 535.104.05 is taken",
        "apt-get purge 'libnvidia-compute-*'",
    ),
    (
        "second_driver",  # and there is no other
        replace(
            healthy(),
            libraries=(replace(PACKAGED, taken=True),),
            trials=(fails(999, "CUDA_ERROR_UNKNOWN"),),
            torch=None,
        ),
        "kernel module 550.54.15; CUDA 999: CUDA_ERROR_UNKNOWN",
        f"rm {FOLDER}/{CUDA}",
    ),
    (
        "second_nvml",
        replace(
            full(nvml_fails(18, "Driver/library version mismatch"), cards(2)),
            trials=(),
            libraries=(SECOND_NVML, replace(real(NVML), taken=False)),
        ),
        f"NVML 18: Driver/library version mismatch; {SECOND_NVML.path}",
        SECOND_NVML.path,
    ),
    (
        "not_in_cache",
        unloadable(f"{CUDA}: {NOT_FOUND}", GKE),
        f"{GKE.path} is here, where the loader does not look",
        "LD_LIBRARY_PATH=/usr/local/nvidia/lib64",
    ),
    (
        "not_in_cache",
        unloadable(f"{CUDA}: {NOT_FOUND}", UNLINKED),
        f"{UNLINKED.path} is here, without a link",
        "ldconfig",
    ),
    (
        "not_in_cache",
        replace(
            full(NO_NVML, cards(2)),
            trials=(),
            libraries=(replace(GKE, name=NVML, path=f"/usr/local/nvidia/lib64/{NVML}"),),
        ),
        f"/usr/local/nvidia/lib64/{NVML} is here",
        "/usr/local/nvidia/lib64",
    ),
    (
        "broken",
        unloadable(f"{FOLDER}/{CUDA}: file too short", EMPTY),
        "file too short",
        f"rm {FOLDER}/{CUDA}",
    ),
    (
        "broken",
        unloadable(f"libnvidia-gone.so.1: {NOT_FOUND}", real(CUDA)),
        "libnvidia-gone.so.1",
        f"ldd {FOLDER}/{CUDA}",
    ),
    (
        "broken",  # at a start, when CUDA is not known to work
        replace(
            full(
                GpuReport(failure=DriverFailure("library", f"{FOLDER}/{NVML}: invalid ELF header")),
                cards(2),
            ),
            libraries=(),
        ),
        "invalid ELF header",
        f"rm {FOLDER}/{NVML}",
    ),
]

BROKEN_NVML = GpuReport(failure=DriverFailure("library", f"{FOLDER}/{NVML}: file too short"))
WARNINGS = [
    (
        "preload_broken",
        with_preloads(healthy(), Preload(VGPU, "is not there"), Preload("/opt/well.so")),
        f"names {VGPU}, which is not there",
        f"take {VGPU} out",
    ),
    (
        "broken_nvml",
        replace(full(BROKEN_NVML, cards(2)), trials=(works(GPUS),)),
        "file too short",
        f"rm {FOLDER}/{NVML}",
    ),
    (
        "several",
        healthy(libraries=(real(CUDA), real(NVML), replace(OTHER, source="ld.so.cache"))),
        "535.104.05 (/opt/conda/lib/libcuda.so.1), 550.54.15",
        "rm /opt/conda/lib/libcuda.so.1",
    ),
]


@pytest.mark.parametrize(("name", "evidence", "seen", "fix"), FAILURES, ids=ids(FAILURES))
def test_each_cause_is_the_one_failure(name: str, evidence: Evidence, seen: str, fix: str) -> None:
    verdict = judge(evidence)
    assert verdict.failure is not None
    assert verdict.failure.id == f"libraries.{name}"
    assert seen in verdict.failure.what
    assert fix in verdict.failure.fix
    assert verdict.exit_status == 10 + LAYERS.index("libraries") + 1


@pytest.mark.parametrize(("name", "evidence", "seen", "fix"), WARNINGS, ids=ids(WARNINGS))
def test_each_warning_is_no_failure(name: str, evidence: Evidence, seen: str, fix: str) -> None:
    verdict = judge(evidence)
    assert verdict.failure is None
    found = {warning.id: warning for warning in verdict.warnings}[f"libraries.{name}"]
    assert seen in found.what
    assert fix in found.fix


def test_every_check_has_its_scenario() -> None:
    failures = {check.id for check in libraries.CHECKS if not check.warning}
    warnings = {check.id for check in libraries.CHECKS if check.warning}
    assert {f"libraries.{name}" for name in ids(FAILURES)} == failures
    assert {f"libraries.{name}" for name in ids(WARNINGS)} == warnings


def test_a_library_that_is_passed_by_does_not_hang() -> None:
    failure = judge(hung_with(Preload(VGPU, "is not there"))).failure
    assert failure is not None
    assert failure.id == "cuda.hung"


def seen_of_libraries(evidence: Evidence) -> set[str]:
    return {check.id for check in libraries.CHECKS if check.seen(evidence)}


@pytest.mark.parametrize(
    "evidence",
    [
        healthy(),
        healthy(libraries=(), trials=()),
        healthy(libraries=first(COMPAT)),  # forward compatibility that works
        # Not here at all is the layer below.
        unloadable(f"{CUDA}: {NOT_FOUND}"),
        unloadable(f"{CUDA}: {NOT_FOUND}", real(CUDA)),
        # A mask hides the GPUs: whichever library is taken, that is the environment's fault.
        healthy(
            libraries=first(OTHER),
            trials=(
                fails(100, "CUDA_ERROR_NO_DEVICE"),
                works(GPUS, NO_MASKS),
                fails(100, "CUDA_ERROR_NO_DEVICE", OWN_LIBRARY),
                works(GPUS, CLEAN),
            ),
        ),
    ],
)
def test_no_library_is_blamed_without_proof(evidence: Evidence) -> None:
    assert seen_of_libraries(evidence) <= {"libraries.several"}


def test_a_library_is_blamed_beside_a_mask() -> None:
    # Neither cure is enough alone; that another library fails otherwise tells of both.
    trials = (
        fails(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
        fails(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", NO_MASKS),
        fails(100, "CUDA_ERROR_NO_DEVICE", OWN_LIBRARY),
        works(GPUS, CLEAN),
    )
    failure = judge(healthy(libraries=first(OTHER), trials=trials)).failure
    assert failure is not None
    assert failure.id == "libraries.shadowed"
