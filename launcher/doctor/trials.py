"""Try CUDA as the user's environment has it, then with less in its way: what helps is the fault."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from launcher.doctor import libraries as doctor_libraries
from launcher.gpus.visibility import explain
from launcher.model import codec
from launcher.model.evidence import (
    AS_GIVEN,
    CLEAN,
    NO_MASKS,
    NO_MPS,
    OWN_LIBRARY,
    CudaTrial,
    Evidence,
    Library,
)
from launcher.model.host import Account
from launcher.model.machine import GpuReport
from launcher.model.named_tuple import NamedTuple
from launcher.process.bounded import Child, start_all, wait_for

_AFTER_A_HANG = 10.0  # seconds for what might not hang


class Setting(NamedTuple):
    """What CUDA is tried in."""

    how: str
    environ: Mapping[str, str]
    library: str | None = None  # loaded by its path; None = as the loader finds it
    left_out: tuple[str, ...] = ()

    def is_like(self, other: Setting) -> bool:
        return self.environ == other.environ and self.library == other.library

    def for_programs(self) -> dict[str, str]:
        """Return the environment in which a program that asks for libcuda.so.1 gets this one."""
        environ = dict(self.environ)
        if self.library:
            kept = (str(Path(self.library).parent), environ.get("LD_LIBRARY_PATH"))
            environ["LD_LIBRARY_PATH"] = ":".join(filter(None, kept))
        return environ


def _nobody(*heard: object) -> None:
    """Hear of it, where nobody wants to."""


class Listener(NamedTuple):
    """Who hears how far the collecting is."""

    waiting: Callable[[str], None] = _nobody  # of what is waited for, once, where it is slow
    # Of the evidence so far, and the highest layer that can be judged by it.
    known: Callable[[Evidence, str], None] = _nobody


class Programs(NamedTuple):
    """The programs that run in children, and how they are run."""

    folder: str  # which they are in
    python: str  # the user's interpreter, which has PyTorch
    user: Account | None  # whom the children become; None = who we are
    deadline: float = 60.0  # seconds, for each
    listener: Listener = Listener()


class Trier(NamedTuple):
    """Runs guest/cuda.py."""

    programs: Programs

    def run(self, settings: Sequence[Setting]) -> tuple[CudaTrial, ...]:
        """Try all of them at once."""
        argv = [sys.executable, "-I", "-S", f"{self.programs.folder}/cuda.py"]
        commands = (
            ([*argv, setting.library] if setting.library else argv, setting.environ)
            for setting in settings
        )
        try:
            children = start_all(commands, self.programs.user)
        except OSError as err:
            return tuple(_crashed(one, f"{argv[0]}: {err.strerror}") for one in settings)
        ended = wait_for(children, self.programs.deadline, self._say_what_is_slow)
        return tuple(
            self._trial(setting, child, done)
            for setting, child, done in zip(settings, children, ended, strict=True)
        )

    def _say_what_is_slow(self) -> None:
        slow = f"cuInit has not returned; it has {self.programs.deadline:g} s"
        self.programs.listener.waiting(slow)

    def _trial(self, setting: Setting, child: Child, ended: bool) -> CudaTrial:
        answer = child.answer
        if answer is not None and "outcome" in answer:
            return _read(setting, answer)
        if ended:
            return _crashed(setting, child.end)
        reason = f"no answer within {self.programs.deadline:g} s"
        return CudaTrial(setting.how, "hung", reason=reason, left_out=setting.left_out)


def try_cuda(
    programs: Programs, environ: Mapping[str, str], report: GpuReport, kernel: str | None,
    libraries: Sequence[Library],
) -> tuple[tuple[CudaTrial, ...], dict[str, Setting]]:  # fmt: skip
    """Return the trials, AS_GIVEN first, and what each was tried in."""
    trier, asked = Trier(programs), Setting(AS_GIVEN, environ)
    (given,) = trier.run([asked])
    settings = {AS_GIVEN: asked}
    if is_well(given, report):
        return (given,), settings
    fewer = [one for one in (_without_masks(asked), _without_mps(asked)) if not one.is_like(asked)]
    own = _with_own_library(asked, given, libraries, kernel)
    if own:
        fewer.append(own)
    if not fewer:
        return (given,), settings
    clean = _clean(asked, own, fewer)
    twin = next((one for one in fewer if one.is_like(clean)), None)
    if given.outcome == "hung":
        trier = Trier(programs._replace(deadline=min(programs.deadline, _AFTER_A_HANG)))
    trials = trier.run(fewer if twin else [*fewer, clean])
    if twin:
        same = next(trial for trial in trials if trial.how == twin.how)
        trials = (*trials, same._replace(how=CLEAN))
    settings.update({one.how: one for one in (*fewer, clean)})
    return (given, *trials), settings


def is_well(trial: CudaTrial, report: GpuReport) -> bool:
    """Return whether CUDA works, on as many devices as NVML says that one process can have."""
    every = ",".join(str(gpu.index) for gpu in report.gpus)
    expected = len(explain(every, report, "PCI_BUS_ID").devices) if every else 1
    return trial.outcome == "ok" and len(trial.devices) >= max(1, expected)


# --- what is left out ------------------------------------------------------------------------


def _without(setting: Setting, how: str, names: Iterable[str]) -> Setting:
    gone = tuple(name for name in names if name in setting.environ)
    environ = {name: value for name, value in setting.environ.items() if name not in gone}
    return setting._replace(how=how, environ=environ, left_out=setting.left_out + gone)


def _without_masks(setting: Setting) -> Setting:
    return _without(setting, NO_MASKS, ["CUDA_VISIBLE_DEVICES"])


def _without_mps(setting: Setting) -> Setting:
    names = [name for name in setting.environ if name.startswith("CUDA_MPS_")]
    return _without(setting, NO_MPS, names)


def _clean(asked: Setting, own: Setting | None, fewer: Sequence[Setting]) -> Setting:
    clean = _without_mps(_without_masks(own or asked))
    left_out = dict.fromkeys(name for one in fewer for name in one.left_out)
    return clean._replace(how=CLEAN, left_out=tuple(left_out))


def _with_own_library(
    asked: Setting, given: CudaTrial, libraries: Sequence[Library], kernel: str | None
) -> Setting | None:
    """Return how to try the driver's own libcuda; None where that is what was tried, or unknown."""
    own = doctor_libraries.best(libraries, kernel)
    wrong = [one for one in libraries if own and _is_wrong(one, own, kernel)]
    bad = {str(Path(one.path).parent) for one in wrong} | {one.path for one in wrong}
    if own:
        bad.discard(str(Path(own.path).parent))
    environ = dict(asked.environ)
    left_out: list[str] = []
    for name, entries in (
        ("LD_PRELOAD", environ.get("LD_PRELOAD", "").replace(":", " ").split()),
        ("LD_LIBRARY_PATH", doctor_libraries.split_path(environ.get("LD_LIBRARY_PATH", ""))),
    ):
        gone = [entry for entry in entries if entry.rstrip("/") in bad]
        if gone:
            left_out += gone
            environ[name] = ":".join(entry for entry in entries if entry not in gone)
    # What hung or crashed says not what it had loaded: then the loader's order tells.
    order = (one.target for one in libraries if one.name == doctor_libraries.CUDA and one.taken)
    loaded = given.library or next(order, None)
    if own and loaded and loaded != own.target:
        left_out.append(loaded)
    if own is None or (loaded and not left_out):
        return None
    return Setting(OWN_LIBRARY, environ, own.path, tuple(dict.fromkeys(left_out)))


def _is_wrong(library: Library, own: Library, kernel: str | None) -> bool:
    """Return whether a libcuda is a stub, for another driver, or none at all."""
    if not library.name.startswith("libcuda.so") or library.path == own.path:
        return False
    if library.kind in ("stub", "compat", "dangling", "empty"):
        return True
    return bool(kernel and library.version and library.version != kernel)


# --- what came out ---------------------------------------------------------------------------


def _crashed(setting: Setting, reason: str) -> CudaTrial:
    return CudaTrial(setting.how, "crashed", reason=reason, left_out=setting.left_out)


def _read(setting: Setting, answer: Mapping[str, object]) -> CudaTrial:
    """Return what guest/cuda.py printed, as a value."""
    facts = {**answer, "how": setting.how, "left_out": setting.left_out}
    try:
        return codec.from_json(CudaTrial, json.dumps(facts))
    except (ValueError, TypeError, KeyError) as err:  # another program's JSON
        return _crashed(setting, f"no answer that can be read: {err}")
