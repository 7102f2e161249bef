"""What is said of what CUDA needs beside itself: GPUs that are taken or slow, and small limits."""

from __future__ import annotations

import pytest

from launcher.checks import judge
from launcher.checks.resources import CHECKS
from launcher.model.evidence import Evidence, TorchFailure
from launcher.model.host import Sharing
from launcher.model.machine import CpuBudget, Gpu, GpuProcess
from launcher.model.plan import Finding
from testing.evidences import cheap, healthy
from testing.machines import GIB, NO_CARD, answering, cards, gpu, machine, mig_gpu
from testing.values import replace

MIB = 1 << 20
FULL = 80 << 30


def having(*gpus: Gpu, **environ: str) -> Evidence:
    """Return what a start sees of these GPUs."""
    return cheap(answering(*gpus), cards(len(gpus)), environ)


def limited(platform: str = "docker", count: int = 2, **limits: object) -> Evidence:
    """Return a healthy box with these limits."""
    seen = healthy(count)
    machine = seen.machine
    changed = replace(
        machine,
        limits=replace(machine.limits, **limits),  # type: ignore[arg-type]
        host=replace(machine.host, platform=platform),
    )
    return replace(seen, machine=changed)


def warnings(seen: Evidence) -> list[Finding]:
    return [found for found in judge(seen).warnings if found.id.startswith("resources.")]


def warning(seen: Evidence) -> Finding:
    """Return this layer's only warning, beside which there is no failure."""
    assert judge(seen).exit_status == 0
    (found,) = warnings(seen)
    return found


# --- GPUs that are taken ----------------------------------------------------------------------


def test_every_gpu_is_prohibited() -> None:
    seen = having(gpu(0, compute_mode=2), gpu(1, compute_mode=2))
    verdict = judge(seen)
    assert verdict.failure is not None
    assert verdict.failure.id == "resources.compute_prohibited"
    assert verdict.failure.what == "GPUs 0, 1: compute mode Prohibited (2)"
    assert verdict.failure.fix == "on the host: sudo nvidia-smi -i 0,1 -c DEFAULT"
    assert verdict.exit_status == 18
    assert warnings(seen) == []


def test_prohibited_gpus_are_the_cause_of_what_pytorch_saw() -> None:
    seen = healthy(1)
    report = answering(gpu(0, compute_mode=2))
    busy = TorchFailure(0, "CUDA error: CUDA-capable device(s) is/are busy or unavailable", 46)
    assert seen.torch is not None
    torch = replace(seen.torch, failures=(busy,))
    verdict = judge(replace(seen, machine=machine(report, cards(1)), torch=torch))
    assert verdict.failure is not None
    assert verdict.failure.id == "resources.compute_prohibited"


def test_some_gpu_is_prohibited() -> None:
    found = warning(having(gpu(0), gpu(1, compute_mode=2), gpu(2, compute_mode=0)))
    assert found.id == "resources.some_prohibited"
    assert found.what.startswith("GPU 1: ")
    assert "-i 1 " in found.fix


@pytest.mark.parametrize("mode", [None, 0, 3])
def test_other_compute_modes_prohibit_nothing(mode: int | None) -> None:
    assert warnings(having(gpu(0, compute_mode=mode))) == []
    assert judge(having(gpu(0, compute_mode=mode))).failure is None


@pytest.mark.parametrize(
    ("held", "who"),
    [
        ({"processes": 1}, "used by 1 process"),
        ({"processes": 3}, "used by 3 processes"),
        ({"memory_free": FULL // 2, "memory_bytes": FULL}, "that cannot be seen from here"),
    ],
)
def test_an_exclusive_gpu_is_in_use(held: dict[str, int], who: str) -> None:
    found = warning(having(gpu(0), gpu(1, compute_mode=3, **held)))
    assert found.id == "resources.exclusive_in_use"
    assert found.what.startswith("GPU 1: compute mode Exclusive_Process (3)")
    assert found.what.endswith(who)
    assert warnings(having(gpu(0), gpu(1, compute_mode=0, **held))) == []


def test_under_mps_an_exclusive_gpu_is_shared() -> None:
    busy = gpu(0, compute_mode=3, processes=1)
    assert warnings(having(busy, CUDA_MPS_PIPE_DIRECTORY="/tmp/nvidia-mps")) == []
    alone = having(busy)
    host = replace(alone.machine.host, sharing=Sharing(mps="/tmp/nvidia-mps"))
    assert warnings(replace(alone, machine=replace(alone.machine, host=host))) == []
    assert "share that: docker run --ipc=host -v /tmp/nvidia-mps" in warning(alone).fix


def test_a_vgpu_without_its_licence_is_named_before_it_slows_down() -> None:
    licensed, not_licensed = (
        gpu(index, "GRID A100D-20C", vgpu=True, licensed=bool(1 - index)) for index in (0, 1)
    )
    found = warning(having(licensed, not_licensed))
    assert found.id == "resources.not_licensed"
    assert found.what == "GPU 1 (GRID A100D-20C): a vGPU without a licence"
    assert "nvidia-gridd" in found.fix
    assert warnings(having(replace(not_licensed, licensed=None))) == []


def test_where_pytorch_was_run_it_knows_whether_there_was_room() -> None:
    seen = having(gpu(0, compute_mode=3, processes=1))
    assert warnings(seen) != []
    assert warnings(replace(seen, torch=healthy(1).torch, trials=healthy(1).trials)) == []


@pytest.mark.parametrize(
    ("free", "processes", "words"),
    [
        (FULL // 20 - MIB, 2, "used by 2 processes"),
        (0, 0, "used by processes that cannot be seen from here"),
        (0, None, "used by processes that cannot be seen from here"),
    ],
)
def test_a_gpu_whose_memory_is_taken(free: int, processes: int | None, words: str) -> None:
    full = gpu(1, memory_bytes=FULL, memory_free=free, processes=processes)
    found = warning(having(gpu(0), full))
    assert found.id == "resources.memory_full"
    assert found.what == f"GPU 1 has {free // MIB} of {FULL // MIB} MiB free, {words}"


def test_gpus_whose_memory_is_taken_are_told_in_one_line() -> None:
    full = (gpu(at, memory_bytes=FULL, memory_free=0) for at in range(8))
    assert warning(having(*full)).what.endswith("; 7 more like it")


@pytest.mark.parametrize(
    "card",
    [
        gpu(0, memory_bytes=FULL, memory_free=FULL // 20),
        gpu(0, memory_bytes=FULL, memory_free=None),
        gpu(0, memory_bytes=None, memory_free=0),
        replace(mig_gpu(0, 2), memory_free=0),  # a GPU in MIG mode: its instances have it
    ],
)
def test_memory_that_is_free_or_not_known_is_no_complaint(card: Gpu) -> None:
    assert warnings(having(card)) == []


def cut(*instances: dict[str, object], **changes: object) -> Gpu:
    """Return a GPU in MIG mode with these changes to its instances."""
    whole = mig_gpu(0, len(instances))
    told = zip(whole.mig_devices, instances, strict=True)
    devices = tuple(replace(mig, **each) for mig, each in told)  # type: ignore[arg-type]
    return replace(whole, mig_devices=devices, **changes)  # type: ignore[arg-type]


def test_an_instance_whose_memory_is_taken_is_named() -> None:
    free, holder = {"memory_free": 9 * GIB}, GpuProcess(57, 9 * GIB, 57, "python")
    full = {"memory_free": 100 * MIB, "processes": 1, "holders": (holder,)}
    found = warning(having(gpu(1), cut(free, full, memory_free=70 * GIB)))
    assert found.id == "resources.memory_full"
    assert found.what == (
        "MIG 1 of GPU 0 (1g.10gb) has 100 of 10240 MiB free, used by 1 process: "
        "python (pid 57 here, 9216 MiB)"
    )


def test_of_an_exclusive_gpu_in_mig_mode_the_instance_in_use_is_named() -> None:
    busy = cut({"processes": 0}, {"processes": 2}, compute_mode=3, processes=2)
    assert warning(having(busy)).what.startswith("MIG 1 of GPU 0 (1g.10gb): compute mode")
    assert warnings(having(cut({"processes": 0}, {}, compute_mode=3, processes=2))) == []


# --- GPUs that are slowed down ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (None, []),
        (0x0, []),
        (0x1, []),  # idle
        (0x2, []),  # application clocks
        (0x4, []),  # power cap: busy
        (0x10, []),  # sync boost
        (0x20, ["thermal_slowdown"]),
        (0x40, ["thermal_slowdown"]),
        (0x48, ["thermal_slowdown"]),  # nvml.h: 0x8 goes with its causes
        (0x80, ["power_brake"]),
        (0x88, ["power_brake"]),
        (0x24, ["thermal_slowdown"]),
        (0x8, ["hardware_slowdown"]),
        (0x9, []),  # idle: its clocks are changing
        (0xC0, ["thermal_slowdown", "power_brake"]),
    ],
)
def test_why_clocks_are_held_down(reasons: int | None, expected: list[str]) -> None:
    seen = having(gpu(0), gpu(1, slowdown=reasons))
    found = warnings(seen)
    assert [finding.id.removeprefix("resources.") for finding in found] == expected
    assert judge(seen).failure is None
    for finding in found:
        assert finding.what.startswith("GPU 1: ")
        assert finding.what.endswith(f"clocks event reasons {reasons:#x}")


# --- limits of the container ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shm", "words"),
    [
        (64 * MIB, "/dev/shm is 64 MiB"),
        (GIB - 1, "/dev/shm is 1023 MiB"),
        (0, "/dev/shm is 0 MiB"),
        (GIB, None),
        (None, None),
    ],
)
def test_shared_memory(shm: int | None, words: str | None) -> None:
    found = warnings(limited(shm=shm))
    assert [(one.id, one.what) for one in found] == ([("resources.shm", words)] if words else [])


@pytest.mark.parametrize(
    ("platform", "how"),
    [
        ("docker", "docker run --shm-size=8g "),
        ("podman", "podman run --shm-size=8g "),
        ("kubernetes", "in the pod: mount an emptyDir with medium: Memory on /dev/shm"),
        ("plain", "sudo mount -o remount,size=8G /dev/shm"),
    ],
)
def test_the_fix_is_for_what_started_the_box(platform: str, how: str) -> None:
    assert warning(limited(platform, shm=0)).fix.startswith(how)


def with_rdma(seen: Evidence) -> Evidence:
    nodes = (*seen.hardware.device_nodes, "/dev/infiniband/uverbs0")
    hardware = replace(seen.hardware, device_nodes=nodes)
    return replace(seen, machine=replace(seen.machine, hardware=hardware))


@pytest.mark.parametrize(
    ("memlock", "words"),
    [(8 * MIB, "8192 KiB"), (64 * MIB, "65536 KiB"), (GIB, None), (None, None)],
)
def test_locked_memory_counts_where_there_are_rdma_cards(memlock, words) -> None:
    seen = limited(memlock=memlock)
    assert warnings(seen) == []
    found = warnings(with_rdma(seen))
    assert [one.id for one in found] == (["resources.memlock"] if words else [])
    assert all(words in one.what and "--ulimit memlock=-1" in one.fix for one in found)


@pytest.mark.parametrize(
    ("nofile", "words"),
    [(1024, None), (1 << 20, None), (1_073_741_816, "1073741816 files"), (None, "any number")],
)
def test_too_many_open_files(nofile: int | None, words: str | None) -> None:
    found = warnings(limited(nofile=nofile))
    assert [one.id for one in found] == (["resources.files"] if words else [])
    assert all(str(words) in one.what and "--ulimit nofile=65536" in one.fix for one in found)


@pytest.mark.parametrize(("pids", "few"), [(100, True), (511, True), (512, False), (None, False)])
def test_processes_and_threads(pids: int | None, few: bool) -> None:
    found = warnings(limited(pids=pids))
    assert [one.id for one in found] == (["resources.threads"] if few else [])
    assert all(f"{pids} processes" in one.what for one in found)


@pytest.mark.parametrize(
    ("quota", "count", "words"),
    [
        (0.5, 1, "0.5 of 128 CPUs for 1 GPU"),
        (2.0, 8, "2 of 128 CPUs for 8 GPUs"),
        (1.0, 1, None),
        (8.0, 8, None),
        (None, 8, None),
    ],
)
def test_fewer_cpus_than_gpus(quota: float | None, count: int, words: str | None) -> None:
    found = warnings(limited(count=count, cpus=CpuBudget(128, 128, quota)))
    assert [one.what for one in found] == ([words] if words else [])


def test_a_machine_that_has_no_more_cpus_is_what_it_is() -> None:
    assert warnings(limited(count=8, cpus=CpuBudget(2, 2, None))) == []


def test_without_gpus_only_the_boxs_own_limits_count() -> None:
    limits = replace(limited().machine.limits, cpus=CpuBudget(1, 1, 0.1), shm=0, memlock=0)
    seen = cheap(answering(), NO_CARD)
    found = warnings(with_rdma(replace(seen, machine=replace(seen.machine, limits=limits))))
    assert [one.id for one in found] == ["resources.shm"]


@pytest.mark.parametrize(
    ("seen", "named"),
    [
        (healthy(refused_calls=("clone3",)), []),  # a failure says it
        (healthy(refused_calls=("clone3", "faccessat2")), ["faccessat2"]),
        (healthy(refused_calls=("clone3",), cpu_only=True), ["clone3"]),
        (cheap(answering(), NO_CARD)._replace(refused_calls=("clone3",)), ["clone3"]),
    ],
)
def test_forbidden_system_calls(seen: Evidence, named: list[str]) -> None:
    found = [one for one in warnings(seen) if one.id == "resources.system_calls"]
    assert [one.what.partition(":")[0] for one in found] == named


# --- all of them ------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["docker", "podman", "kubernetes", "runpod", "plain", "wsl2"])
def test_every_warning_has_a_fix_everywhere(platform: str) -> None:
    taken = gpu(0, compute_mode=3, processes=1, memory_free=0, memory_bytes=FULL, slowdown=0xC0,
                vgpu=True, licensed=False)  # fmt: skip
    others = (gpu(1, compute_mode=2), gpu(2, slowdown=0x8))
    seen = limited(platform, cpus=CpuBudget(2, 1, None), shm=0, pids=1, memlock=0, nofile=None)
    report = answering(taken, *others)
    host = replace(seen.machine.host, loopback="127.0.1.1")
    small = replace(seen.machine, report=report, host=host)
    calls = ("clone3", "faccessat2")
    seen = replace(seen, machine=small, torch=None, trials=(), refused_calls=calls)
    found = warnings(with_rdma(seen))
    known = {check.id for check in CHECKS if check.warning}
    assert {one.id for one in found} == {one for one in known if ".rdma_" not in one}
    assert all(one.fix and one.what for one in found)
    assert not any("docker" in one.fix for one in found) or platform == "docker"


def test_where_all_is_well_nothing_applies() -> None:
    assert [check.id for check in CHECKS if check.seen(healthy(8))] == []
