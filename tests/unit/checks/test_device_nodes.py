"""Device nodes: whose they are, and whom their modes keep out."""

from __future__ import annotations

import pytest

from launcher.checks import runtime
from launcher.model.evidence import Evidence
from launcher.model.host import Account
from launcher.model.machine import DeviceNode, GpuReport
from testing.evidences import cheap, full, opened
from testing.machines import DEV, ROOT, answering, cards, gpu
from testing.values import replace


def two(**changes: object) -> GpuReport:
    return replace(answering(gpu(0, minor=0), gpu(1, minor=1)), **changes)  # type: ignore[arg-type]


def owned(mode: int, uid: int = 0, gid: int = 44) -> GpuReport:
    hardware = cards(2)
    found = tuple(DeviceNode(path, "", uid, gid, mode) for path in hardware.device_nodes)
    return replace(two(), nodes=found)


def seen_of_runtime(evidence: Evidence) -> set[str]:
    return {check.id for check in runtime.CHECKS if check.seen(evidence)}


def test_other_containers_gpus_may_be_refused() -> None:
    hardware = cards(3)
    report = replace(two(), nodes=opened(hardware, nvidia2="EPERM"))
    assert seen_of_runtime(full(report, hardware, trials=())) == set()
    report = replace(two(), nodes=opened(hardware, nvidia1="EPERM"))
    assert seen_of_runtime(full(report, hardware, trials=())) == {"runtime.cgroup"}


@pytest.mark.parametrize(
    ("user", "mode", "kept_out"),
    [
        (ROOT, 0o000, False),
        (DEV, 0o666, False),
        (DEV, 0o660, True),
        (replace(DEV, groups=(44,)), 0o660, False),
        (replace(DEV, groups=(44,)), 0o606, True),  # the group's bits count, not the others'
        (replace(DEV, uid=7), 0o466, True),
    ],
)
def test_modes_are_read_as_the_kernel_reads_them(user: Account, mode: int, kept_out: bool) -> None:
    evidence = replace(cheap(owned(mode, uid=7), cards(2)), user=user)
    assert seen_of_runtime(evidence) == ({"runtime.user_permission"} if kept_out else set())


def test_cuda_that_works_overrules_modes() -> None:
    evidence = full(owned(0o660), cards(2))
    assert seen_of_runtime(evidence) == set()
