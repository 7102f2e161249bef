"""PyTorch: its build against the driver and the GPU, and whether it computes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.checks import Verdict, judge, pytorch
from launcher.checks.facts.wheels import (
    RELEASES,
    Wheel,
    capability_of,
    cuda_of,
    fitting_wheel,
    runs,
)
from launcher.model.evidence import (
    CLEAN,
    Beside,
    CudaTrial,
    Evidence,
    ImageTorch,
    TorchFailure,
    TorchReport,
)
from launcher.model.machine import Gpu
from testing.evidences import NO_NVML, cheap, fails, full, healthy, works
from testing.machines import NO_CARD, answering, cards, gpu, mig_gpu
from testing.values import replace

NO_KERNEL = "CUDA error: no kernel image is available for execution on the device"
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable"


def with_torch(gpus: tuple[Gpu, ...] = (gpu(0), gpu(1)), **report: object) -> Evidence:
    """Return a machine that works, whose PyTorch did something else than it should."""
    seen = full(answering(*gpus), cards(len(gpus)))
    assert seen.torch is not None
    return replace(seen, torch=replace(seen.torch, **report))  # type: ignore[arg-type]


def on_device(
    message: str, code: int | None = None, *, index: int = 0, one: Gpu | None = None, **more: object
) -> Evidence:
    """Return a machine on which PyTorch cannot compute on one device."""
    gpus = (one,) if one else (gpu(0), gpu(1))
    return with_torch(gpus, failures=(TorchFailure(index, message, code),), **more)


def driver(seen: Evidence, version: int) -> Evidence:
    """Return the same with a driver that runs CUDA `version`, 12040."""
    trials = tuple(replace(trial, driver_version=version) for trial in seen.trials)
    return replace(seen, trials=trials)


def verdict(seen: Evidence) -> Verdict:
    """Return what the checks of this layer alone say."""
    return judge(seen, pytorch.CHECKS)


def failure_id(seen: Evidence) -> str | None:
    failure = verdict(seen).failure
    return failure.id if failure else None


OLD = gpu(0, "Tesla V100-SXM2-16GB", compute_capability=(7, 0))
NEW = gpu(0, "NVIDIA GeForce RTX 5090", compute_capability=(12, 0))
FROM_TURING = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
TOO_OLD = (
    "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). "
    "Please update your GPU driver."
)
NO_DEVICES: dict[str, object] = {"available": False, "devices": 0, "names": ()}

FAILURES = {
    "pytorch.missing": (
        with_torch(outcome="missing", error="No module named 'torch'", version=None),
        "No module named 'torch'",
        "pip install --force-reinstall torch==",
    ),
    "pytorch.broken": (
        with_torch(outcome="broken", error="libcudart.so.12: cannot open shared object file"),
        "libcudart.so.12: cannot open",
        "--force-reinstall",
    ),
    "pytorch.crashed": (with_torch(outcome="crashed", error="SIGILL"), "SIGILL", "faulthandler"),
    "pytorch.hung": (with_torch(outcome="hung", error="no answer in 60 s"), "60 s", "ABRT"),
    "pytorch.rocm": (
        with_torch(version="2.6.0+rocm6.2", cuda=None, hip="6.2.41133", **NO_DEVICES),
        "ROCm 6.2.41133",
        "pip install --force-reinstall torch==2.6.0",
    ),
    "pytorch.cpu_build": (
        with_torch(version="2.6.0+cpu", cuda=None, arches=(), **NO_DEVICES),
        "2.6.0+cpu",
        "pip install --force-reinstall torch==2.6.0",
    ),
    "pytorch.driver_too_old": (
        with_torch(version="2.9.1+cu130", cuda="13.0", error="init failed", error_code=35,
                   arches=FROM_TURING, **NO_DEVICES),
        "built for CUDA 13.0, the driver runs 12.4",
        "torch==2.9.1+cu126",
    ),
    "pytorch.dropped_arch": (
        on_device(NO_KERNEL, 209, one=OLD, version="2.11.0+cu128", cuda="12.8", arches=FROM_TURING),
        "the GPU is sm_70; the build has code for sm_75 to sm_120",
        "torch==2.11.0+cu126",
    ),
    "pytorch.no_kernel": (
        driver(on_device(NO_KERNEL, 209, one=NEW), 12080),
        "cuda:0 (NVIDIA GeForce RTX 5090): CUDA error: no kernel image is available",
        "torch==2.7.1+cu128",
    ),
    "pytorch.ecc": (
        on_device("CUDA error: uncorrectable ECC error encountered", 214, index=1),
        "cuda:1",
        "nvidia-smi -r -i 00000000:11:00.0",
    ),
    "pytorch.wrong_result": (
        on_device("wrong result of a matrix product"),
        "wrong result",
        "nvidia-smi -r -i 00000000:10:00.0",
    ),
    "pytorch.busy": (
        on_device(BUSY, 46, one=gpu(0, compute_mode=3, processes=1)),
        "compute mode: exclusive process, 1 computing on it",
        "nvidia-smi -i 00000000:10:00.0 -c 0",
    ),
    "pytorch.out_of_memory": (
        on_device("CUDA out of memory. Tried to allocate 20 MiB.", 2,
                  one=gpu(0, memory_free=12 << 20)),
        "cuda:0 (NVIDIA H100 80GB HBM3): CUDA out of memory; 12 of 81559 MiB free",
        "nvidia-smi",
    ),
    "pytorch.self_test": (
        with_torch(**NO_DEVICES, error="Error 103: integrity checks failed", error_code=103),
        "Error 103: integrity checks failed",
        "reinstall the NVIDIA driver",
    ),
    "pytorch.disagrees": (
        with_torch(**NO_DEVICES, warnings=("CUDA initialization: Unexpected error. Error 103: x",)),
        "CUDA gives 2 devices, PyTorch none: CUDA initialization: Unexpected error. Error 103: x",
        "CUDA_VISIBLE_DEVICES",
    ),
    "pytorch.fails": (
        on_device("CUDA error: unspecified launch failure", 719),
        "unspecified launch failure",
        "CUDA_LAUNCH_BLOCKING=1",
    ),
    "pytorch.sees_fewer": (with_torch(devices=1), "1 of 2 devices", "CUDA_VISIBLE_DEVICES"),
}  # fmt: skip


@pytest.mark.parametrize("expected", FAILURES)
def test_each_failure_is_seen_alone_with_its_fix(expected: str) -> None:
    seen, what, fix = FAILURES[expected]
    failure = verdict(seen).failure
    assert failure is not None
    assert failure.id == expected
    assert what in failure.what
    assert fix in failure.fix


def test_every_failure_of_the_layer_is_in_this_table() -> None:
    assert [check.id for check in pytorch.CHECKS if not check.warning] == list(FAILURES)


def test_pytorch_is_not_judged_where_it_did_not_run_or_there_is_no_gpu() -> None:
    assert failure_id(healthy(torch=None)) is None
    assert failure_id(cheap(answering(gpu(0)), cards(1))) is None
    cpu = TorchReport("ok", version="2.6.0+cpu", available=False)
    assert failure_id(full(NO_NVML, NO_CARD, torch=cpu)) is None


def test_cuda_without_nvml_is_a_gpu_too() -> None:
    cpu = TorchReport("ok", version="2.6.0+cpu", available=False)
    seen = full(NO_NVML, cards(1), torch=cpu, trials=(works((gpu(0),)),))
    assert failure_id(seen) == "pytorch.cpu_build"


def test_what_is_compared_is_cuda_in_the_environment_that_pytorch_ran_in() -> None:
    masked = fails(100, "CUDA_ERROR_NO_DEVICE")
    seen = with_torch(how=CLEAN, devices=1)
    both = replace(seen, trials=(masked, replace(seen.trials[0], how=CLEAN)))
    assert failure_id(both) == "pytorch.sees_fewer"
    assert failure_id(replace(both, torch=replace(both.torch, devices=2))) is None


# --- the build ---------------------------------------------------------------------------------


def test_a_foreign_library_that_lacks_a_symbol_points_at_the_library_path() -> None:
    error = "libcusparse.so.12: undefined symbol: __nvJitLinkComplete_12_4, version libnvJitLink"
    seen = with_torch(outcome="broken", error=error)
    assert "--force-reinstall" in verdict(seen).failure.fix
    foreign = replace(seen, environ={"LD_LIBRARY_PATH": "/usr/local/cuda-12.1/lib64"})
    assert "env -u LD_LIBRARY_PATH" in verdict(foreign).failure.fix


@pytest.mark.parametrize(
    "report",
    [
        {"cuda": "12.4", "error": "init failed", "error_code": 35, **NO_DEVICES},
        {"cuda": "12.4", "warnings": (TOO_OLD,), **NO_DEVICES},
        {"cuda": "12.4", "failures": (TorchFailure(0, "unsupported PTX", 222),)},
        {"cuda": "13.0", **NO_DEVICES},
    ],
    ids=["35", "its words", "ptx", "major"],
)
def test_every_sign_of_a_driver_that_is_too_old(report: dict[str, object]) -> None:
    assert failure_id(with_torch(**report)) == "pytorch.driver_too_old"


def test_a_newer_build_that_computes_is_not_blamed() -> None:
    """The compat package, or minor version compatibility, makes it run."""
    assert failure_id(with_torch(version="2.9.1+cu130", cuda="13.0")) is None
    assert failure_id(with_torch(version="2.9.1+cu128", cuda="12.8")) is None


@pytest.mark.parametrize(
    "report",
    [{"failures": (TorchFailure(0, "CUBLAS_STATUS_ARCH_MISMATCH"),)},
     {"failures": (TorchFailure(0, NO_KERNEL),)}],
)  # fmt: skip
def test_a_device_without_code_is_found_by_its_words_or_by_the_list(
    report: dict[str, object],
) -> None:
    assert failure_id(with_torch((NEW,), **report)) == "pytorch.no_kernel"


def test_a_device_that_computes_needs_no_code_of_its_own() -> None:
    """PyTorch tried it: PTX, or a build whose list says too little, ran."""
    assert failure_id(with_torch((NEW,))) is None


def test_the_build_for_another_processor_is_not_guessed() -> None:
    seen = FAILURES["pytorch.cpu_build"][0]
    library = "/usr/lib/aarch64-linux-gnu/libcuda.so.550.54.15"
    trials = tuple(replace(trial, library=library) for trial in seen.trials)
    fix = verdict(replace(seen, trials=trials)).failure.fix
    assert "pytorch.org/get-started" in fix
    assert "CUDA 12.4" in fix
    assert "pip install" not in fix


# --- computing ---------------------------------------------------------------------------------


def test_busy_in_the_default_mode_points_at_the_licence() -> None:
    fix = verdict(on_device(BUSY, 46, one=gpu(0, compute_mode=0))).failure.fix
    assert "license" in fix
    assert "-c 0" not in fix


@pytest.mark.parametrize("message", [BUSY, "CUDA error: something else"])
def test_where_every_gpu_is_prohibited_the_resources_say_so(message: str) -> None:
    seen = on_device(message, 46, one=gpu(0, compute_mode=2))
    assert failure_id(seen) is None


def test_a_mig_instance_is_on_its_gpu() -> None:
    parent = mig_gpu(0, 2)
    devices = tuple(
        replace(works((gpu(index),)).devices[0], index=index, uuid=uuid)
        for index, uuid in enumerate(parent.mig_uuids)
    )
    seen = on_device("CUDA error: uncorrectable ECC error encountered", 214, index=1, one=parent)
    seen = replace(seen, trials=(CudaTrial("as given", "ok", devices=devices),))
    assert f"-i {parent.pci_bus_id}" in verdict(seen).failure.fix


def test_pytorch_that_starts_cuda_and_then_fails_is_told_with_its_words() -> None:
    """`devices` is what NVML counts where CUDA failed to start."""
    seen = with_torch(error="CUDA error: initialization error", error_code=3)
    assert failure_id(seen) == "pytorch.fails"
    assert "initialization error" in verdict(seen).failure.what


def test_silence_of_pytorch_is_told() -> None:
    assert "does not say why" in verdict(with_torch(**NO_DEVICES)).failure.what


def test_the_weaker_check_is_a_warning() -> None:
    seen = healthy(environ={"PYTORCH_NVML_BASED_CUDA_CHECK": "1"})
    assert [warning.id for warning in verdict(seen).warnings] == ["pytorch.nvml_based_check"]
    assert verdict(seen).failure is None
    assert not verdict(healthy(environ={"PYTORCH_NVML_BASED_CUDA_CHECK": "0"})).warnings


def test_a_healthy_machine_has_no_finding() -> None:
    assert verdict(healthy()) == Verdict(None, ())


# --- wheels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver_cuda", "capability", "version", "expected"),
    [
        ((12, 4), (9, 0), "2.6.0+cpu", Wheel("2.6.0", "cu124")),  # exactly
        ((12, 8), (8, 9), "2.6.0", Wheel("2.6.0", "cu124")),  # what pip takes by itself
        ((12, 8), (8, 9), "2.10.0", Wheel("2.10.0", "cu128")),  # the newest that the driver knows
        ((12, 2), (9, 0), "2.9.0", Wheel("2.9.0", "cu126")),  # newer, within the major version
        ((13, 0), (12, 0), "2.6.0+cu124", Wheel("2.7.1", "cu128")),  # no older build knows it
        ((11, 8), (8, 0), "2.13.0+cu130", Wheel("2.7.1", "cu118")),  # the last one for CUDA 11
        ((12, 9), (7, 0), "2.8.0+cu129", Wheel("2.8.0", "cu128")),
        ((12, 9), (7, 0), "2.11.0+cu128", Wheel("2.11.0", "cu126")),
        ((12, 9), (6, 1), "2.8.0+cu128", Wheel("2.8.0", "cu126")),
        ((13, 0), (9, 0), "2.14.0.dev20261001+cu132", Wheel("2.13.0", "cu130")),
        ((13, 0), (9, 0), None, Wheel("2.13.0", "cu130")),
        ((10, 2), (7, 0), "2.6.0", None),  # CUDA 11 is the oldest that there is
        ((12, 4), (3, 5), "2.6.0", None),
        ((12, 9), (11, 0), "2.8.0", None),  # Jetson Thor
    ],
)
def test_the_wheel_that_fits(
    driver_cuda: tuple[int, int],
    capability: tuple[int, int],
    version: str | None,
    expected: Wheel | None,
) -> None:
    assert fitting_wheel(driver_cuda, [capability], version) == expected


@given(
    st.tuples(st.integers(10, 14), st.integers(0, 9)),
    st.lists(st.sampled_from([(6, 1), (7, 0), (7, 5), (8, 9), (9, 0), (10, 3), (12, 0)])),
    st.sampled_from([None, "2.1.0", "2.6.0+cpu", "2.8.0+cu129", "2.13.0", "nonsense"]),
)
def test_a_wheel_that_is_named_runs_on_the_driver_and_on_every_gpu(
    driver_cuda: tuple[int, int], devices: list[tuple[int, int]], version: str | None
) -> None:
    wheel = fitting_wheel(driver_cuda, devices, version)
    if wheel is None:
        return
    minor = ".".join(wheel.release.split(".")[:2])
    (arches,) = (
        builds[wheel.tag] for release, builds in RELEASES.items() if release.startswith(f"{minor}.")
    )
    assert cuda_of(wheel.tag)[0] <= driver_cuda[0]
    assert all(runs(arches, device) for device in devices)


@pytest.mark.parametrize(
    ("arch", "device", "expected"),
    [
        ("sm_80", (8, 0), True),
        ("sm_80", (8, 9), True),  # a later minor version
        ("sm_86", (8, 0), False),  # an earlier one
        ("sm_80", (9, 0), False),  # another major version
        ("compute_80", (9, 0), True),  # PTX is translated
        ("compute_90", (8, 9), False),
        ("sm_100", (10, 3), True),
        ("sm_120", (12, 0), True),
        ("sm_90a", (9, 0), True),  # this very device, and no other
        ("sm_100a", (10, 3), False),
        ("nonsense", (9, 0), False),
    ],
)
def test_code_runs_on(arch: str, device: tuple[int, int], expected: bool) -> None:
    assert runs((arch,), device) is expected
    assert capability_of("120") == (12, 0)


# --- another PyTorch than the image's ----------------------------------------------------------

IMAGE = ImageTorch("2.6.0", "/opt/venv")
ABOVE = "/workspace/.packages/python3.11/lib/python3.11/site-packages"


@pytest.mark.parametrize(
    ("origin", "version", "fix"),
    [
        (ABOVE, "2.6.0+cu124", "pip uninstall torch torchvision torchaudio"),
        ("/home/dev/.local/lib/python3.11/site-packages", "2.7.1", "pip uninstall torch"),
        ("/src", "2.7.1", "take /src out of PYTHONPATH"),
        ("/opt/venv/lib/python3.11/site-packages", "2.7.1+cu126", "a new container of the image"),
    ],
)
def test_a_swapped_pytorch_is_named_with_its_place(origin: str, version: str, fix: str) -> None:
    report = TorchReport("ok", origin=f"{origin}/torch/__init__.py", version=version)
    seen = replace(healthy(environ={"PYTHONPATH": "/src"}), torch=report, image_torch=IMAGE)
    (warning,) = [one for one in verdict(seen).warnings if one.id == "pytorch.swapped"]
    assert f"PyTorch {version} in {origin}" in warning.what
    assert fix in warning.fix


@pytest.mark.parametrize("version", ["2.6.0", "2.6.0+cu124", None])
def test_the_images_own_is_not(version: str | None) -> None:
    origin = "/opt/venv/lib/python3.11/site-packages/torch/__init__.py"
    report = TorchReport("ok" if version else "broken", origin=origin, version=version)
    for image in (IMAGE, None):
        seen = replace(healthy(), torch=report, image_torch=image)
        assert "pytorch.swapped" not in [one.id for one in verdict(seen).warnings]


# --- what was built for another PyTorch ----------------------------------------------------------

OWN = "/opt/venv/lib/python3.11/site-packages"
WITH_VISION = IMAGE._replace(beside=(("torchvision", "0.21.0"), ("torchaudio", "2.6.0")))


def beside(*others: Beside, version: str = "2.6.0+cu124", place: str = OWN) -> Evidence:
    report = TorchReport(
        "ok", origin=f"{place}/torch/__init__.py", version=version, beside=tuple(others)
    )
    return replace(healthy(environ={"PYTHONPATH": "/src"}), torch=report)


def mismatches(seen: Evidence) -> list[str]:
    warnings = [one for one in verdict(seen).warnings if one.id == "pytorch.mismatched"]
    return [f"{one.what}; {one.fix}" for one in warnings]


@pytest.mark.parametrize(
    ("place", "fix"),
    [
        (ABOVE, "pip uninstall torchvision; the image's stays"),
        ("/src", "take /src out of PYTHONPATH"),
        (OWN, "a new container of the image"),
    ],
)
def test_a_torchvision_in_the_images_place_is_named(place: str, fix: str) -> None:
    wrong = Beside("torchvision", "0.22.1", place, "2.7.1")
    (said,) = mismatches(replace(beside(wrong), image_torch=WITH_VISION))
    assert f"torchvision 0.22.1 in {place} is built for PyTorch 2.7.1; 2.6.0+cu124 is here" in said
    assert fix in said


def test_one_that_does_not_say_for_which_is_told_by_the_images() -> None:
    wrong = Beside("torchaudio", "2.11.0", ABOVE)
    (said,) = mismatches(replace(beside(wrong), image_torch=WITH_VISION))
    assert "takes the place of the image's 2.6.0" in said
    assert mismatches(beside(wrong)) == [], "without an image nobody knows"


def test_in_a_base_of_others_it_is_told_by_what_it_asks_for() -> None:
    """NVIDIA's PyTorch: 2.8.0a0 is what its own torchvision asks for, if it asks at all."""
    nv = {
        "version": "2.8.0a0+5228986c39.nv25.06",
        "place": "/usr/local/lib/python3.12/dist-packages",
    }
    own = Beside("torchvision", "0.22.0a0+95f10a4e", nv["place"], "2.8.0a0")
    assert mismatches(beside(own, own._replace(torch=None), **nv)) == []
    (said,) = mismatches(beside(own._replace(version="0.24.0", torch="2.9.0"), **nv))
    assert "--no-deps torchvision==…" in said
    assert "2.8.0a0+5228986c39.nv25.06" in said


@pytest.mark.parametrize(
    ("image", "others"),
    [
        (WITH_VISION, (Beside("torchvision", "0.21.0+cu124", OWN, "2.6.0"),)),
        (WITH_VISION, (Beside("torchaudio", "2.6.0", OWN, "9.9"),)),  # its builder's business
        (WITH_VISION, ()),
        (None, (Beside("torchvision", "0.21.0", OWN, "2.6.0+cu126"),)),
        (IMAGE, (Beside("torchvision", "0.21.0", OWN, "2.6.0"),)),
    ],
)
def test_what_belongs_together_is_not(image: ImageTorch | None, others: tuple[Beside, ...]) -> None:
    assert mismatches(replace(beside(*others), image_torch=image)) == []


def test_where_pytorch_was_swapped_that_is_said_alone() -> None:
    own = Beside("torchvision", "0.21.0", OWN, "2.6.0")
    seen = replace(beside(own, version="2.7.1", place=ABOVE), image_torch=WITH_VISION)
    assert mismatches(seen) == []
    assert "pytorch.swapped" in [one.id for one in verdict(seen).warnings]


@pytest.mark.parametrize(
    ("image", "fix"),
    [(IMAGE, "create the container anew, with the image's own PyTorch; "), (None, "torch==2.6.0")],
)
def test_after_a_failed_self_test_the_same_build_comes_again(
    image: ImageTorch | None, fix: str
) -> None:
    """Without a version pip would bring the newest, which neither CUDA nor torchvision expects."""
    failed = with_torch(
        devices=0, available=False, error="x", error_code=103, version="2.6.0+cu124",
        origin=f"{OWN}/torch/__init__.py",
    )  # fmt: skip
    failure = verdict(replace(failed, image_torch=image)).failure
    assert failure is not None
    assert failure.id == "pytorch.self_test"
    assert fix in failure.fix
    assert not re.search(r"install [^;]*torch(?!==)", failure.fix)
