"""GPUs that are let talk to each other: what is run, for how long, and what came of it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import sys
import time
from pathlib import Path

import pytest

from launcher.detect import driver
from launcher.doctor import collective
from launcher.doctor.trials import Listener, Programs
from launcher.model.collective import Collective, CollectiveTrial, PairSpeed
from launcher.model.evidence import AS_GIVEN, Evidence
from launcher.model.host import Account
from testing.evidences import healthy
from testing.machines import GIB, answering, gpu, machine
from testing.values import replace

pytestmark = pytest.mark.long

MIB = 1 << 20
TORCH = Path(__file__).parents[3] / ".cache" / "torch"
NO_GPU = Evidence(machine(answering()), {})
OTHERS = ["NCCL_P2P_DISABLE=1", "NCCL_SHM_DISABLE=1", "NCCL_NVLS_ENABLE=0"]

# A guest that says what it was given, in the place of what it has to say.
TELLS = """
import json, os, sys
given = {**{name: os.environ[name] for name in os.environ if name.startswith("NCCL_")}}
rank, ranks, store, backend, size = sys.argv[1:]
folder = os.stat(os.path.dirname(store))
facts = [rank, ranks, backend, size, given, [folder.st_uid, oct(folder.st_mode & 0o777)], store]
"""
FAILS = TELLS + 'print(json.dumps({"outcome": "error", "reason": json.dumps(facts)}))'


class Said:
    """What is told while it is waited for, and how the children run."""

    def __init__(self, folder: str = driver.GUEST, **changes: object) -> None:
        self.lines: list[str] = []
        given = {"python": sys.executable, "user": None, "deadline": 30.0, **changes}
        self.programs = Programs(folder=folder, listener=Listener(self.lines.append), **given)  # type: ignore[arg-type]


def guest(folder: Path, text: str) -> str:
    (folder / "collective.py").write_text(text)
    return str(folder)


def facts(trial: CollectiveTrial) -> list[object]:
    import json

    found = json.loads(trial.reason)
    assert isinstance(found, list)
    return found


# --- what is run ------------------------------------------------------------------------------


def test_where_it_fails_it_is_tried_again_with_each_way_left_out_alone(tmp_path: Path) -> None:
    said = Said(guest(tmp_path, FAILS), deadline=30.0)
    found = collective.try_collective(said.programs, {"NCCL_DEBUG": "INFO"}, healthy(2), tmp_path)
    assert (found.backend, found.ranks, found.gpus, found.iommu) == ("nccl", 2, (0, 1), False)
    assert [trial.how for trial in found.trials] == [AS_GIVEN, *OTHERS]
    assert [facts(trial)[4] for trial in found.trials] == [
        {"NCCL_DEBUG": "INFO"},
        *({"NCCL_DEBUG": "INFO", **dict([how.split("=")])} for how in OTHERS),
    ]
    assert said.lines[0].endswith(" over 2 GPUs: at most 30 s, 120 s where they fail")
    assert said.lines[1:] == [f"that failed; again with {how}" for how in OTHERS]


def test_what_the_user_left_out_is_not_left_out_again(tmp_path: Path) -> None:
    said = Said(guest(tmp_path, FAILS))
    environ = {"NCCL_P2P_DISABLE": "1", "NCCL_NVLS_ENABLE": "1"}
    found = collective.try_collective(said.programs, environ, healthy(2), tmp_path)
    assert [trial.how for trial in found.trials] == [AS_GIVEN, *OTHERS[1:]]


@pytest.mark.parametrize("outcome", ["ok", "missing"])
def test_what_goes_well_or_cannot_go_is_not_tried_again(tmp_path: Path, outcome: str) -> None:
    said = Said(guest(tmp_path, f'print(\'{{"outcome": "{outcome}"}}\')'))
    found = collective.try_collective(said.programs, {}, healthy(2), tmp_path)
    assert [trial.outcome for trial in found.trials] == [outcome]


def test_one_gpu_alone_is_not_tried(tmp_path: Path) -> None:
    said = Said(guest(tmp_path, FAILS))
    found = collective.try_collective(said.programs, {}, healthy(1), tmp_path)
    assert found == Collective("nccl", 1, (0,))
    assert said.lines == []


@pytest.mark.parametrize(
    ("free", "size"), [(None, 256 * MIB), (80 * GIB, 256 * MIB), (GIB, 64 * MIB), (1, 4096)]
)
def test_gpus_that_are_in_use_are_sent_less(tmp_path: Path, free: int, size: int) -> None:
    seen = healthy(2)
    report = answering(gpu(0, memory_free=80 * GIB), gpu(1, memory_free=free))
    seen = replace(seen, machine=machine(report))
    found = collective.try_collective(Said(guest(tmp_path, FAILS)).programs, {}, seen, tmp_path)
    assert facts(found.trials[0])[:4] == ["0", "2", "nccl", str(size)]


def test_ranks_are_told_by_the_uuids_that_cuda_gives(tmp_path: Path) -> None:
    """A mask that leaves GPU 0 out and turns the others around."""
    seen = healthy(3)
    assert seen.given is not None
    assert seen.torch is not None
    first, second, third = seen.given.devices
    masked = replace(seen.given, devices=(replace(third, index=0), replace(second, index=1)))
    seen = replace(seen, trials=(masked,), torch=replace(seen.torch, devices=2))
    found = collective.try_collective(Said(guest(tmp_path, FAILS)).programs, {}, seen, tmp_path)
    assert found.gpus == (2, 1)
    assert found.indices((0, 1)) == (2, 1)
    assert found.indices((1, 2)) == ()
    assert first.uuid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_they_meet_in_a_folder_of_the_users_own_which_is_gone_afterwards(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    user = Account("nobody", nobody.pw_uid, nobody.pw_gid, "/", "/bin/sh")
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin:/opt/python/bin")
    if python is None:
        pytest.skip("there is no Python that everybody may run")
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    said = Said(guest(tmp_path, FAILS), user=user, python=python)
    found = collective.try_collective(said.programs, {}, healthy(2), tmp_path)
    *_, owner, store = facts(found.trials[0])
    assert owner == [nobody.pw_uid, "0o700"]
    assert not Path(str(store)).parent.exists()


def test_what_cannot_be_started_is_said(tmp_path: Path) -> None:
    said = Said(guest(tmp_path, ""), python="/nonexistent/python")
    found = collective.try_collective(said.programs, {}, healthy(2), tmp_path)
    assert found.trials[0].outcome == "error"
    assert "/nonexistent/python" in found.trials[0].reason


def test_an_iommu_that_is_in_use_is_seen(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel/iommu_groups/7").mkdir(parents=True)
    said = Said(guest(tmp_path, 'print(\'{"outcome": "ok"}\')'))
    assert collective.try_collective(said.programs, {}, healthy(2), tmp_path).iommu


# --- how long ---------------------------------------------------------------------------------

HANGS = 'print(\'{"step": "all_reduce"}\', flush=True)\nimport time; time.sleep(600)'


def test_what_hangs_is_ended(tmp_path: Path) -> None:
    said = Said(guest(tmp_path, HANGS), deadline=1.5)
    trial = collective.try_collective(said.programs, {}, NO_GPU, tmp_path).trials[0]
    assert (trial.outcome, trial.step) == ("hung", "all_reduce")
    assert trial.reason == "no answer within 1.5 s: it hangs, or is very slow"
    assert said.lines[1:] == ["they are still at it"]


def test_once_one_has_failed_the_others_are_not_waited_for(tmp_path: Path) -> None:
    one_fails = f"import sys\nif sys.argv[1] == '1': sys.exit('cannot')\n{HANGS}"
    said = Said(guest(tmp_path, one_fails), deadline=300.0)
    began = time.monotonic()
    trial = collective.try_collective(said.programs, {}, NO_GPU, tmp_path).trials[0]
    assert (trial.outcome, trial.reason) == ("crashed", "cannot")
    assert time.monotonic() - began < 200


# --- what came of it --------------------------------------------------------------------------

WELL = {"outcome": "ok", "version": "2.21.5"}
AT_PAIR = {"outcome": None, "step": "point-to-point"}


def came(*answers: dict[str, object], ends: tuple[str, ...] = ()) -> CollectiveTrial:
    return collective.what_came_of_it("x", answers, ends or ("",) * len(answers), 60.0)


def test_the_slower_of_two_counts() -> None:
    found = came(
        {**WELL, "all_reduce": 30e9, "pairs": {"1": 20e9, "2": 9e9}},
        {**WELL, "all_reduce": 31e9, "pairs": {"0": 19e9, "2": 8e9}},
        {**WELL, "all_reduce": 29e9, "pairs": {"0": 7e9, "1": 10e9}},
        ends=("ended with status 0",) * 3,
    )
    pairs = (PairSpeed(0, 1, 19e9), PairSpeed(0, 2, 7e9), PairSpeed(1, 2, 8e9))
    assert found == CollectiveTrial("x", "ok", version="2.21.5", all_reduce=29e9, pairs=pairs)


def test_of_those_that_wait_the_pair_that_waits_for_each_other_is_stuck() -> None:
    """Rank 0 has gone on to its next partner, which is still with another."""
    found = came(
        {**AT_PAIR, "peer": 3}, {**AT_PAIR, "peer": 2}, {**AT_PAIR, "peer": 1},
        {**AT_PAIR, "peer": 0},
    )  # fmt: skip
    assert found.ranks in ((0, 3), (1, 2))
    waits = came({**AT_PAIR, "peer": 2}, {**AT_PAIR, "peer": 2}, {**AT_PAIR, "peer": 1})
    assert (waits.outcome, waits.step, waits.ranks) == ("hung", "point-to-point", (1, 2))


@pytest.mark.parametrize(
    ("answers", "ends", "outcome", "step", "ranks", "reason"),
    [
        # Wrong counts, however it went on.
        (({**WELL}, {"outcome": "wrong", "wrong_step": "point-to-point", "wrong_peer": 0,
                     "step": "all_reduce", "reason": "r"}), ("end", ""),
         "wrong", "point-to-point", (0, 1), "r"),
        # Who ended because the other did is not the one to blame.
        (({"outcome": "error", "step": "connect", "reason": "Connection closed by peer [::1]"},
          {"outcome": "error", "step": "connect", "reason": "out of memory"}), ("end", "end"),
         "error", "connect", (), "out of memory"),
        (({"outcome": "error", "step": "connect", "reason": "Connection reset"}, {}), ("end", ""),
         "error", "connect", (), "Connection reset"),
        (({"step": "all_reduce"}, {"step": "all_reduce"}), ("", "killed by SIGSEGV"),
         "crashed", "all_reduce", (), "killed by SIGSEGV"),
        (({}, {}), ("", ""), "hung", "start", (),
         "no answer within 60 s: it hangs, or is very slow"),
        (({"outcome": "missing", "reason": "none"}, {}), ("end", ""),
         "missing", "start", (), "none"),
    ],
)  # fmt: skip
def test_what_is_blamed(answers, ends, outcome, step, ranks, reason) -> None:  # type: ignore[no-untyped-def]
    found = came(*answers, ends=ends)
    assert (found.outcome, found.step, found.ranks) == (outcome, step, ranks)
    assert found.reason == reason


# --- PyTorch itself, by gloo ------------------------------------------------------------------

# What a process does before its own program begins (site): the fault of rank 1.
WRONG = """
import sys
import torch.distributed as dist
real = dist.all_reduce
def all_reduce(tensor, *given, **named):
    real(tensor, *given, **named)
    if tensor.numel() > 1:
        tensor[7] += 1
if sys.argv[1:2] == ["1"]:
    dist.all_reduce = all_reduce
"""
DIES = """
import os, sys
import torch.distributed as dist
if sys.argv[1:2] == ["1"]:
    dist.recv = lambda *given: os.kill(os.getpid(), 9)
"""
SLEEPS = """
import sys, time
import torch.distributed as dist
if sys.argv[1:2] == ["1"]:
    dist.all_reduce = lambda *given, **named: time.sleep(600)
"""


def by_gloo(folder: Path, fault: str = "", deadline: float = 120.0) -> CollectiveTrial:
    if not TORCH.exists() and importlib.util.find_spec("torch") is None:
        pytest.skip("there is no CPU build of PyTorch here")
    (folder / "sitecustomize.py").write_text(fault)
    environ = {**os.environ, "PYTHONPATH": f"{folder}:{TORCH}", "MASTER_ADDR": "203.0.113.1"}
    programs = Said(deadline=deadline).programs
    (trial,) = collective.try_collective(programs, environ, NO_GPU, folder).trials
    return trial


def test_processes_talk_to_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three: two do so in a box without a GPU (tests/container/test_doctor.py)."""
    monkeypatch.setattr(collective, "_ON_CPU", 3)
    trial = by_gloo(tmp_path)
    assert (trial.outcome, trial.reason) == ("ok", "")
    assert [(pair.a, pair.b) for pair in trial.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert trial.all_reduce
    assert trial.all_reduce > 0


def test_a_wrong_sum_is_found(tmp_path: Path) -> None:
    trial = by_gloo(tmp_path, WRONG)
    assert (trial.outcome, trial.step) == ("wrong", "all_reduce")
    assert trial.reason == "the sums of 4096 bytes are others"


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    trial = by_gloo(tmp_path, DIES)
    assert trial.step == "point-to-point"
    assert trial.outcome in ("crashed", "error")  # the other one sees the end, or is killed first


def test_a_process_that_never_comes_is_a_hang(tmp_path: Path) -> None:
    trial = by_gloo(tmp_path, SLEEPS, deadline=15.0)
    assert (trial.outcome, trial.step) == ("hung", "all_reduce")
