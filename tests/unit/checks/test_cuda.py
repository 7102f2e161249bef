"""CUDA itself: what its start, with nothing in the way, says is broken."""

from __future__ import annotations

import pytest

from launcher.checks import Verdict, cuda, judge
from launcher.model.evidence import AS_GIVEN, CLEAN, NO_MASKS, CudaTrial, Evidence
from launcher.model.machine import Gpu, Limits
from testing.evidences import cheap, fails, healthy, works
from testing.machines import GIB, answering, cards, gpu, mig_gpu
from testing.values import replace


def after(*trials: CudaTrial, **changes: object) -> Evidence:
    """Return a machine with two GPUs on which CUDA did this."""
    return healthy(**{"trials": trials, "torch": None, **changes})


def with_gpus(seen: Evidence, *gpus: Gpu) -> Evidence:
    return replace(seen, machine=replace(seen.machine, report=answering(*gpus)))


def verdict(seen: Evidence) -> Verdict:
    """Return what the checks of this layer alone say."""
    return judge(seen, cuda.CHECKS)


def failure_id(seen: Evidence) -> str | None:
    failure = verdict(seen).failure
    return failure.id if failure else None


CODES = {
    2: ("CUDA_ERROR_OUT_OF_MEMORY", "cuda.out_of_memory", "ulimit -v"),
    3: ("CUDA_ERROR_NOT_INITIALIZED", "cuda.init_failed", "modprobe nvidia_uvm"),
    46: ("CUDA_ERROR_DEVICE_UNAVAILABLE", "cuda.busy", "nvidia-smi -c 0"),
    100: ("CUDA_ERROR_NO_DEVICE", "cuda.no_device", "--gpus all"),
    102: ("CUDA_ERROR_DEVICE_NOT_LICENSED", "cuda.not_licensed", "nvidia-gridd"),
    214: ("CUDA_ERROR_ECC_UNCORRECTABLE", "cuda.ecc", "ROW_REMAPPER"),
    220: ("CUDA_ERROR_NVLINK_UNCORRECTABLE", "cuda.error", "dmesg"),
    304: ("CUDA_ERROR_OPERATING_SYSTEM", "cuda.operating_system", "seccomp"),
    800: ("CUDA_ERROR_NOT_PERMITTED", "cuda.not_permitted", "seccomp"),
    802: ("CUDA_ERROR_SYSTEM_NOT_READY", "cuda.not_ready", "conf-compute -srs 1"),
    803: ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "cuda.mismatch", "docker run"),
    805: ("CUDA_ERROR_MPS_CONNECTION_FAILED", "cuda.mps", "/tmp/nvidia-mps"),
    806: ("CUDA_ERROR_MPS_RPC_FAILURE", "cuda.mps_server", "nvidia-cuda-mps-control"),
    807: ("CUDA_ERROR_MPS_SERVER_NOT_READY", "cuda.mps_server", "nvidia-cuda-mps-control"),
    808: ("CUDA_ERROR_MPS_MAX_CLIENTS_REACHED", "cuda.mps_server", "nvidia-cuda-mps-control"),
    809: ("CUDA_ERROR_MPS_MAX_CONNECTIONS_REACHED", "cuda.mps_server", "nvidia-cuda-mps-control"),
    810: ("CUDA_ERROR_MPS_CLIENT_TERMINATED", "cuda.mps_server", "nvidia-cuda-mps-control"),
    999: ("CUDA_ERROR_UNKNOWN", "cuda.unknown", "modprobe nvidia_uvm"),
}


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_its_one_failure_with_the_code_and_the_fix(code: int) -> None:
    name, expected, fix = CODES[code]
    failure = verdict(after(fails(code, name))).failure
    assert failure is not None
    assert failure.id == expected
    assert str(code) in failure.what
    assert name in failure.what
    assert fix in failure.fix


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("how", [NO_MASKS, CLEAN])
def test_a_failure_that_goes_with_what_is_in_the_way_is_not_of_this_layer(
    code: int, how: str
) -> None:
    """A mask gives 100, a stray MPS variable 805, another library 803: CUDA itself is well."""
    given = fails(code, CODES[code][0])
    clean = works((gpu(0), gpu(1)), CLEAN)
    trials = (given, clean) if how == CLEAN else (given, replace(clean, how=how), clean)
    assert failure_id(after(*trials, environ={"CUDA_VISIBLE_DEVICES": ""})) is None


def test_what_remains_with_nothing_in_the_way_is_what_counts() -> None:
    seen = after(fails(100, "CUDA_ERROR_NO_DEVICE"), fails(999, "CUDA_ERROR_UNKNOWN", CLEAN))
    assert failure_id(seen) == "cuda.unknown"


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("hung", "cuda.hung"), ("crashed", "cuda.crashed"), ("library", None), ("ok", None)],
)
def test_how_the_process_ended(outcome: str, expected: str | None) -> None:
    devices = works((gpu(0), gpu(1))).devices if outcome == "ok" else ()
    trial = CudaTrial(AS_GIVEN, outcome, reason="killed by SIGSEGV", devices=devices)
    failure = verdict(after(trial)).failure
    assert (failure.id if failure else None) == expected
    assert failure is None or "SIGSEGV" in failure.what


@pytest.mark.parametrize(("persistence", "told"), [(False, True), (True, False), (None, False)])
def test_a_hang_points_at_persistence_mode_only_where_it_is_off(
    persistence: bool | None, told: bool
) -> None:
    seen = with_gpus(after(CudaTrial(AS_GIVEN, "hung")), gpu(0, persistence=persistence))
    failure = verdict(seen).failure
    assert failure is not None
    assert ("nvidia-smi -pm 1" in failure.fix) is told


def test_a_memory_limit_is_named_where_there_is_one() -> None:
    seen = after(fails(2, "CUDA_ERROR_OUT_OF_MEMORY"))
    small: Limits = replace(seen.limits, memory=GIB // 2)
    limited = replace(seen, machine=replace(seen.machine, limits=small))
    unlimited = replace(seen, machine=replace(seen.machine, limits=replace(small, memory=None)))
    assert "limit 0.5 GiB" in verdict(limited).failure.what
    assert "limit" not in verdict(unlimited).failure.what


def test_no_device_says_what_nvml_counts() -> None:
    assert "NVML counts 2 GPUs" in verdict(after(fails(100, "CUDA_ERROR_NO_DEVICE"))).failure.what
    assert failure_id(after(works(()))) == "cuda.no_device"


def test_a_mask_that_was_not_tried_without_is_given_the_benefit_of_the_doubt() -> None:
    seen = after(fails(100, "CUDA_ERROR_NO_DEVICE"), environ={"CUDA_VISIBLE_DEVICES": "7"})
    assert failure_id(seen) != "cuda.no_device"
    one = after(works((gpu(0),)), environ={"CUDA_VISIBLE_DEVICES": "0"})
    assert failure_id(one) is None


def test_a_mismatch_names_both_versions() -> None:
    seen = after(fails(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"))
    assert "kernel module 550.54.15" in verdict(seen).failure.what
    assert "libcuda.so.550.54.15" in verdict(seen).failure.what


@pytest.mark.parametrize(("modes", "expected"), [((2, 2), None), ((2, 3), "cuda.busy")])
def test_prohibited_gpus_are_the_business_of_the_resources(
    modes: tuple[int, int], expected: str | None
) -> None:
    gpus = [gpu(index, compute_mode=mode) for index, mode in enumerate(modes)]
    busy = after(fails(46, "CUDA_ERROR_DEVICE_UNAVAILABLE"))
    assert failure_id(with_gpus(busy, *gpus)) == expected
    nothing = after(fails(100, "CUDA_ERROR_NO_DEVICE"))
    assert failure_id(with_gpus(nothing, *gpus)) == (expected and "cuda.no_device")


def test_some_devices_missing() -> None:
    failure = verdict(after(works((gpu(0),)))).failure
    assert failure is not None
    assert failure.id == "cuda.partial"
    assert "1 of 2 GPUs" in failure.what
    assert "GPU 1 (NVIDIA H100" in failure.what
    assert "GPU 0" not in failure.what
    assert "nvidia-smi -r -i 00000000:11:00.0" in failure.fix
    assert "grep -i -e 0000:11:00;" in failure.fix


@pytest.mark.parametrize(
    "other",
    [gpu(1, compute_mode=2), mig_gpu(1, 2)],
    ids=["prohibited", "mig"],
)
def test_devices_that_cuda_need_not_give_are_not_missed(other: Gpu) -> None:
    assert failure_id(with_gpus(after(works((gpu(0),))), gpu(0), other)) is None


def test_nothing_is_guessed_from_what_a_start_collects() -> None:
    assert failure_id(cheap(answering(gpu(0)), cards(1))) is None


def test_a_healthy_machine_has_no_failure() -> None:
    assert failure_id(healthy()) is None
