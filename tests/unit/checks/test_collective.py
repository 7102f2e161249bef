"""GPUs that do not reach each other: what changes with a way left out is the cause."""

from __future__ import annotations

import pytest

from launcher.checks import Verdict, judge
from launcher.checks.collective import CHECKS
from launcher.model.collective import NO_NVLS, NO_P2P, NO_SHM, Collective, CollectiveTrial
from launcher.model.evidence import AS_GIVEN, Evidence
from launcher.model.machine import Pair
from launcher.model.plan import Finding
from testing.evidences import healthy
from testing.values import replace

NO_ROOM = "Error while creating shared memory segment /dev/shm/nccl-pZafXL (size 7340384)"
HANGS = CollectiveTrial(AS_GIVEN, "hung", "all_reduce", (), "no answer within 60 s")
WRONG = CollectiveTrial(AS_GIVEN, "wrong", "point-to-point", (0, 1), "other bytes")
FULL = CollectiveTrial(AS_GIVEN, "error", "connect", (), NO_ROOM)
CRASHES = CollectiveTrial(AS_GIVEN, "crashed", "connect", (), "killed by SIGSEGV")
NVLINK = Pair(0, 1, 18, "switch", "NODE", "OK")
PCIE = Pair(0, 1, 0, None, "PHB", "OK")


def talked(
    given: CollectiveTrial, *cures: str, pair: Pair = PCIE, iommu: bool = False, shm: int = 8 << 30
) -> Evidence:
    """Return two GPUs that did this as given, and went well with each of `cures` alone."""
    seen = healthy(2)
    again = tuple(
        CollectiveTrial(how, "ok") if how in cures else given._replace(how=how)
        for how in (NO_P2P, NO_SHM, NO_NVLS)
    )
    told = seen.machine._replace(
        report=replace(seen.report, pairs=(pair,)), limits=replace(seen.limits, shm=shm)
    )
    trials = (given, *(again if given.outcome != "ok" else ()))
    return replace(
        seen, machine=told, collective=Collective("nccl", 2, (0, 1), trials, iommu=iommu)
    )


def failure(seen: Evidence) -> Finding:
    verdict = judge(seen)
    assert verdict.failure is not None
    assert verdict.exit_status == 19
    return verdict.failure


MISSING = CollectiveTrial(AS_GIVEN, "missing", "start", reason="built without nccl")
CAUSES: dict[str, Evidence] = {
    "p2p": talked(HANGS, NO_P2P),
    "nvls": talked(HANGS, NO_NVLS, pair=NVLINK),
    # Without P2P there is no NVLS either: the narrower way is the cause.
    "nvls-and-p2p": talked(WRONG, NO_P2P, NO_NVLS, pair=NVLINK),
    "shared_memory": talked(CRASHES, NO_SHM),
    "shared_memory-by-its-words": talked(FULL),
    "wrong_result": talked(WRONG),
    "hung": talked(HANGS),
    "failed": talked(CRASHES),
    "unavailable": talked(MISSING),
}


@pytest.mark.parametrize("name", CAUSES)
def test_what_changes_names_the_cause(name: str) -> None:
    found = failure(CAUSES[name])
    assert found.id == f"collective.{name.partition('-')[0]}"


def test_what_was_seen_names_gpus_words_and_cure() -> None:
    assert failure(talked(WRONG, NO_P2P)).what == (
        "point-to-point between GPUs 0, 1 is wrong: other bytes; with NCCL_P2P_DISABLE=1 it goes "
        "well"
    )
    turned = talked(WRONG)
    assert turned.collective is not None
    masked = replace(turned.collective, gpus=(3, 2))
    assert "between GPUs 3, 2 " in failure(replace(turned, collective=masked)).what
    unknown = replace(turned.collective, gpus=(None, 2))
    assert "between two of them " in failure(replace(turned, collective=unknown)).what


def test_over_pcie_p2p_is_acs_and_the_iommu() -> None:
    found = failure(talked(HANGS, NO_P2P, iommu=True))
    assert found.what.endswith("it goes well; the kernel's IOMMU is on")
    assert "ACS and IOMMU off in the BIOS" in found.fix
    assert "until then docker run -e NCCL_P2P_DISABLE=1" in found.fix


def test_over_nvlink_p2p_is_the_links() -> None:
    found = failure(talked(HANGS, NO_P2P, pair=NVLINK))
    assert "nvidia-smi nvlink -s" in found.fix
    assert "ACS" not in found.fix


def test_shared_memory_that_is_large_is_full() -> None:
    assert "--shm-size" in failure(talked(FULL, shm=64 << 20)).fix
    assert "rm /dev/shm/nccl-*" in failure(talked(FULL)).fix


@pytest.mark.parametrize(
    ("share", "pair", "slow"),
    [(0.24, NVLINK, True), (0.26, NVLINK, False), (1.3, NVLINK, False), (0.01, PCIE, False)],
)
def test_slow_is_said_of_nvlinks_alone(share: float, pair: Pair, slow: bool) -> None:
    trial = CollectiveTrial(AS_GIVEN, "ok", all_reduce=share * 18 * 20.6e9)
    verdict: Verdict = judge(talked(trial, pair=pair))
    assert verdict.failure is None
    assert [one.id for one in verdict.warnings] == (["collective.slow"] if slow else [])
    if slow:
        assert verdict.warnings[0].what == "all_reduce 89 GB/s of about 371 (18 NVLinks a GPU)"


@pytest.mark.parametrize("outcome", ["missing", "hung", "error"])
def test_what_is_lower_comes_first(outcome: str) -> None:
    broken = replace(talked(replace(HANGS, outcome=outcome)), torch=None)
    seen = replace(broken, environ={"CUDA_VISIBLE_DEVICES": "7"}, trials=())
    verdict = judge(seen)
    assert verdict.failure is not None
    assert verdict.failure.id == "environment.out_of_range"


@pytest.mark.parametrize(
    "seen",
    [
        healthy(2),  # it was not asked for
        replace(healthy(2), collective=Collective("", 0)),
        replace(healthy(1), collective=Collective("nccl", 1, (0,))),
        replace(healthy(2), collective=Collective("gloo", 2, (), (MISSING,))),
        talked(CollectiveTrial(AS_GIVEN, "ok")),
    ],
)
def test_where_all_is_well_or_nothing_was_tried_nothing_applies(seen: Evidence) -> None:
    assert [check.id for check in CHECKS if check.seen(seen)] == []
