"""What a running box has lost, from two reports and from what the checks know."""

from __future__ import annotations

import pytest

from launcher.checks import Verdict
from launcher.model.machine import DeviceNode, DriverFailure, GpuReport, Hardware, LostGpu
from launcher.watch import gpu_loss
from testing.machines import Case, answering, cards, gpu, machine, mig_gpu
from testing.values import replace

EIGHT = tuple(gpu(index) for index in range(8))
LOST = LostGpu(3, "GPU is lost", 15)
OTHERS = tuple(each for each in EIGHT if each.index != 3)
MIG = mig_gpu(0, 3)
FEWER_INSTANCES = replace(MIG, mig_devices=MIG.mig_devices[:1])
UNKNOWN = DriverFailure("nvml", "Unknown Error", 999)
REFUSED = (DeviceNode("/dev/nvidiactl", "EPERM"),)
ANEW = "docker restart …"


@pytest.mark.parametrize(
    ("start", "now", "lost"),
    [
        pytest.param(answering(*EIGHT), answering(*EIGHT), None, id="the-same"),
        pytest.param(answering(*OTHERS), answering(*EIGHT), None, id="more"),
        pytest.param(answering(*OTHERS, lost=(LOST,)), answering(*EIGHT), None, id="repaired"),
        pytest.param(
            answering(*EIGHT), answering(*OTHERS), "GPU 3 (NVIDIA H100 80GB HBM3, 00000000:13:00.0)"
            " is not listed any more: NVML counts 7, 8 at the start", id="gone",
        ),
        pytest.param(answering(*EIGHT), answering(), "GPU 7", id="all-gone"),
        pytest.param(
            answering(MIG), answering(FEWER_INSTANCES),
            "MIG of GPU 0 was reconfigured: 2 of 3 instances are gone", id="instances-gone",
        ),
        pytest.param(
            answering(MIG), answering(mig_gpu(0, 7)), None, id="more-instances",
        ),
        pytest.param(
            answering(MIG), answering(replace(MIG, mig_enabled=False, mig_devices=())),
            "MIG mode of GPU 0 was turned off", id="mig-off",
        ),
        pytest.param(
            answering(gpu(0)), answering(replace(gpu(0), mig_enabled=True)),
            "MIG mode of GPU 0 was turned on", id="mig-on",
        ),
        pytest.param(
            answering(replace(gpu(0), mig_enabled=None)), answering(gpu(0)), None, id="no-mig"
        ),
        # What is wrong in itself is the checks' to say.
        pytest.param(answering(*EIGHT), GpuReport(failure=UNKNOWN), None, id="nvml-fails"),
        pytest.param(answering(*EIGHT), answering(*OTHERS, lost=(LOST,)), None, id="lost"),
    ],
)  # fmt: skip
def test_a_comparison(start: GpuReport, now: GpuReport, lost: str | None) -> None:
    found = gpu_loss.compare(start, now, ANEW)
    assert (found is None) == (lost is None)
    if found and lost:
        assert lost in found.what
        assert ANEW in found.fix


@pytest.mark.parametrize(
    ("start", "now", "id", "words"),
    [
        pytest.param(answering(*EIGHT), answering(*EIGHT), None, "", id="the-same"),
        pytest.param(
            answering(*EIGHT), GpuReport(failure=UNKNOWN, nodes=REFUSED), "runtime.cgroup_lost",
            "the GPUs worked when this container started; now NVML 999: Unknown Error; "
            "/dev/nvidiactl: EPERM", id="daemon-reload",
        ),
        pytest.param(
            answering(*EIGHT), replace(answering(*EIGHT), nodes=REFUSED), "runtime.cgroup_lost",
            "now /dev/nvidiactl: EPERM", id="daemon-reload-that-nvml-does-not-see",
        ),
        pytest.param(
            answering(*EIGHT), answering(*OTHERS, lost=(LOST,)), "hardware.lost",
            "GPU 3: NVML 15: GPU is lost", id="fallen-off-the-bus",
        ),
        pytest.param(
            answering(*EIGHT), GpuReport(failure=DriverFailure("hung", "no answer within 10 s")),
            "driver.hung", "does not answer: no answer within 10 s", id="hung",
        ),
        pytest.param(
            answering(*EIGHT), GpuReport(failure=DriverFailure("nvml", "mismatch", 18)),
            "driver.mismatch", "18", id="driver-updated",
        ),
        pytest.param(
            answering(*EIGHT), answering(*OTHERS), "gpus.gone", "counts 7", id="gone",
        ),
        pytest.param(
            answering(MIG), answering(FEWER_INSTANCES), "gpus.mig_changed", "2 of 3", id="mig",
        ),
        # What failed at the start is no loss; one more is.
        pytest.param(
            answering(*OTHERS, lost=(LOST,)), answering(*OTHERS, lost=(LOST,)), None, "",
            id="lost-at-the-start",
        ),
        pytest.param(
            answering(*OTHERS, lost=(LOST,)),
            answering(*OTHERS[:4], *OTHERS[5:], lost=(LOST, replace(LOST, index=5))),
            "hardware.lost", "GPU 3, 5", id="one-more",
        ),
    ],
)  # fmt: skip
def test_a_loss_is_named_by_the_right_check(
    start: GpuReport, now: GpuReport, id: str | None, words: str
) -> None:
    hardware = cards(len(start.gpus) + len(start.lost))
    began = machine(start, hardware)
    found = gpu_loss.find_loss(
        began, replace(began, report=now), dict(Case(began).plan().inherited)
    )
    assert (found.id if found else None) == id
    if found:
        assert words in found.what
        assert found.means
        assert found.fix


@pytest.mark.parametrize("hidden", [False, True])
def test_a_box_that_had_gpus_is_no_cpu_machine(*, hidden: bool) -> None:
    """The card was taken out of a virtual machine, or never showed, as on a Jetson."""
    began = machine(answering(gpu(0)), cards(1))
    report = GpuReport(failure=DriverFailure("nvml", "Driver Not Loaded", 9))
    now = replace(began, report=report, hardware=Hardware(pci_hidden=hidden))
    found = gpu_loss.find_loss(began, now, {})
    assert found is not None
    assert found.id == "driver.not_loaded_nvml"


def test_a_driver_that_does_not_start_is_never_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the checks know of it."""
    began = machine(answering(gpu(0)), cards(1))
    now = replace(began, report=GpuReport(failure=DriverFailure("nvml", "a new word", 777)))
    monkeypatch.setattr(gpu_loss.checks, "judge", lambda seen: Verdict(None, ()))
    found = gpu_loss.find_loss(began, now, {})
    assert found is not None
    assert "a new word" in found.what
