"""Let the GPUs talk to each other by the user's PyTorch; where they fail, with one way less.

What changes with a way left out names the cause: P2P, shared memory, or NVLS.  A device alone
computes well where every collective hangs (noonghunna/club-3090#902).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher.doctor.trials import Programs
from launcher.model.collective import (
    GLOO,
    NCCL,
    NO_NVLS,
    NO_P2P,
    NO_SHM,
    Collective,
    CollectiveTrial,
    PairSpeed,
)
from launcher.model.evidence import AS_GIVEN, Evidence
from launcher.process.bounded import Child, start_all, wait_for

_LEFT_OUT = (NO_P2P, NO_SHM, NO_NVLS)
_ON_CPU = 2  # processes, where there is no GPU
_LARGEST = 256 << 20  # bytes that are sent at once
_SMALL = 4 << 20  # … by the CPU
_SHARE = 16  # of the memory that is free, at most this part is sent: NCCL has buffers too
_BLOCK = 4096
_GRACE = 2.0  # seconds for the others, once one has failed: who failed first has the reason


def not_tried() -> Collective:
    """Return that it was asked for, and that something below has to be mended first."""
    return Collective("", 0)


def try_collective(
    programs: Programs, environ: Mapping[str, str], seen: Evidence, root: Path = Path("/")
) -> Collective:
    """Return what the devices that PyTorch sees say to each other.

    Without any, processes on the CPU do the same: that tries the mechanics alone.  At most four
    runs, each with the deadline of `programs`.
    """
    devices = seen.torch.devices if seen.torch else 0
    backend, ranks = (NCCL, devices) if devices else (GLOO, _ON_CPU)
    gpus = tuple(_index_of(seen, rank) for rank in range(devices))
    found = Collective(backend, ranks, gpus, iommu=_translates(root))
    if ranks < 2:
        return found
    run = _Runs(programs, backend, ranks, _size(seen, gpus) if devices else _SMALL)
    hows = [how for how in _LEFT_OUT if not _is_set(how, environ)] if devices else []
    programs.listener.waiting(_how_long(ranks, backend, programs.deadline, len(hows)))
    trials = [run(environ, AS_GIVEN)]
    if trials[0].outcome not in ("ok", "missing"):
        for how in hows:
            programs.listener.waiting(f"that failed; again with {how}")
            name, _, value = how.partition("=")
            trials.append(run({**environ, name: value}, how))
    return found._replace(trials=tuple(trials))


def _how_long(ranks: int, backend: str, seconds: float, more: int) -> str:
    who = "GPUs" if backend == NCCL else "processes on the CPU"
    longest = f", {seconds * (1 + more):g} s where they fail" if more else ""
    return f"point-to-point and all_reduce over {ranks} {who}: at most {seconds:g} s{longest}"


def _is_set(how: str, environ: Mapping[str, str]) -> bool:
    name, _, value = how.partition("=")
    return environ.get(name) == value


def _index_of(seen: Evidence, rank: int) -> int | None:
    """Return the index of the GPU that CUDA calls so in the user's environment."""
    devices = seen.given.devices if seen.given else ()
    uuid = devices[rank].uuid if rank < len(devices) else None
    return next((gpu.index for gpu in seen.gpus if gpu.uuid == uuid), None)


def _size(seen: Evidence, gpus: Sequence[int | None]) -> int:
    """Return how many bytes may be sent at once: GPUs that are in use have little room."""
    free = [gpu.memory_free for gpu in seen.gpus if gpu.index in gpus and gpu.memory_free]
    fits = min([_LARGEST, *(count // _SHARE for count in free)])
    return max(_BLOCK, fits // _BLOCK * _BLOCK)


def _translates(root: Path) -> bool:
    """Return whether the kernel has an IOMMU in use (sysfs-kernel-iommu_groups)."""
    with contextlib.suppress(OSError):
        return any((root / "sys/kernel/iommu_groups").iterdir())
    return False


class _Runs:
    """Runs guest/collective.py, a process for each rank."""

    def __init__(self, programs: Programs, backend: str, ranks: int, size: int) -> None:
        self._programs = programs
        self._backend, self._ranks, self._size = backend, ranks, size

    def __call__(self, environ: Mapping[str, str], how: str) -> CollectiveTrial:
        import tempfile

        try:
            with tempfile.TemporaryDirectory(prefix="launcher-collective-") as folder:
                user = self._programs.user
                if user and os.geteuid() == 0:
                    os.chown(folder, user.uid, user.gid)
                return self._run(environ, how, f"{folder}/store")
        except OSError as err:
            return CollectiveTrial(how, "error", "start", reason=f"cannot be started: {err}")

    def _run(self, environ: Mapping[str, str], how: str, store: str) -> CollectiveTrial:
        programs = self._programs
        script = [programs.python, f"{programs.folder}/collective.py"]
        rest = (str(self._ranks), store, self._backend, str(self._size))
        commands = (([*script, str(rank), *rest], environ) for rank in range(self._ranks))
        children = start_all(commands, programs.user)
        slow = "they are still at it"
        ended = wait_for(
            children,
            programs.deadline,
            lambda: programs.listener.waiting(slow),
            _after_a_failure(children),
        )
        answers = [child.answer or {} for child in children]
        ends = [child.end if done else "" for child, done in zip(children, ended, strict=True)]
        return what_came_of_it(how, answers, ends, programs.deadline)


def _after_a_failure(children: Sequence[Child]) -> Callable[[], bool]:
    """Return what says that one has failed, some seconds ago: the others would wait for it."""
    since: list[float] = []

    def enough() -> bool:
        ended = [child for child in children if child.has_ended()]
        if not since and any(_outcome(child.answer or {}) != "ok" for child in ended):
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] > _GRACE

    return enough


# --- what came out ---------------------------------------------------------------------------


Answer = Mapping[str, object]


def what_came_of_it(
    how: str, answers: Sequence[Answer], ends: Sequence[str], seconds: float
) -> CollectiveTrial:
    """Return the trial that all ranks' last words make.

    Args:
        answers: the last line of each rank; {} where it said nothing.
        ends: how each ended; "" where it had not.
        seconds: they had.
    """
    outcomes = [_outcome(answer) for answer in answers]
    version = next((str(one["version"]) for one in answers if one.get("version")), None)
    for outcome in ("missing", "wrong", "error"):
        bad = [rank for rank, found in enumerate(outcomes) if found == outcome]
        if bad:
            return _told(how, outcome, bad, answers, version)
    undone = [rank for rank, found in enumerate(outcomes) if found != "ok"]
    crashed = [rank for rank in undone if ends[rank]]
    if crashed:
        step, about = _where(crashed[0], answers[crashed[0]])
        return CollectiveTrial(how, "crashed", step, about, ends[crashed[0]], version)
    if undone:
        step, about = _where_stuck(undone, answers)
        reason = f"no answer within {seconds:g} s: it hangs, or is very slow"
        return CollectiveTrial(how, "hung", step, about, reason, version)
    speeds = [float(str(answer["all_reduce"])) for answer in answers if answer.get("all_reduce")]
    return CollectiveTrial(
        how, "ok", version=version, all_reduce=min(speeds, default=None), pairs=_pairs(answers)
    )


def _outcome(answer: Answer) -> str:
    return str(answer.get("outcome") or "")


def _told(
    how: str, outcome: str, ranks: Sequence[int], answers: Sequence[Answer], version: str | None
) -> CollectiveTrial:
    """Return the trial in words of one of these ranks; others see no more than that one ended."""
    rank = next((one for one in ranks if not _is_echo(answers[one])), ranks[0])
    answer = answers[rank]
    where = {"step": answer.get("wrong_step"), "peer": answer.get("wrong_peer")}
    step, about = _where(rank, where if outcome == "wrong" else answer)
    return CollectiveTrial(how, outcome, step, about, str(answer.get("reason", "")), version)


# What those say whose partner has ended: of torch.distributed's stores, of gloo and of NCCL.
_ECHOES = ("closed by peer", "Connection reset", "remote process", "Broken pipe")


def _is_echo(answer: Answer) -> bool:
    return any(words in str(answer.get("reason")) for words in _ECHOES)


def _where(rank: int, answer: Answer) -> tuple[str, tuple[int, ...]]:
    """Return the step, and whom it is about: the two of a pair, else all."""
    step, peer = str(answer.get("step") or "start"), answer.get("peer")
    if step == "point-to-point" and isinstance(peer, int):
        return step, (min(rank, peer), max(rank, peer))
    return step, ()


def _where_stuck(ranks: Sequence[int], answers: Sequence[Answer]) -> tuple[str, tuple[int, ...]]:
    """Return where they wait: for each other, or else for those who do."""
    places = [_where(rank, answers[rank]) for rank in ranks]
    each_other = [place for place in places if place[1] and places.count(place) > 1]
    return (each_other or places)[0]


def _pairs(answers: Sequence[Answer]) -> tuple[PairSpeed, ...]:
    """Return the slower of what the two of each pair measured."""
    found: dict[tuple[int, int], float] = {}
    for rank, answer in enumerate(answers):
        pairs = answer.get("pairs")
        for peer, speed in (pairs if isinstance(pairs, dict) else {}).items():
            key = (min(rank, int(peer)), max(rank, int(peer)))
            found[key] = min(found.get(key, float(speed)), float(speed))
    return tuple(PairSpeed(*pair, speed) for pair, speed in sorted(found.items()))
