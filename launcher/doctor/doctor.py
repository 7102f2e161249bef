"""`launcher doctor`: collect evidence, judge it, say which layer is broken and what mends it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from launcher import __version__, checks
from launcher.checks import CHECKS, COLLECTIVE, LAYERS
from launcher.checks.check import Check
from launcher.detect import driver, rdma, system_calls
from launcher.doctor import collect as doctor_collect
from launcher.doctor import collective, report
from launcher.doctor.trials import Listener, Programs
from launcher.model.errors import BadSetting
from launcher.model.evidence import Evidence
from launcher.model.machine import Machine
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Plan
from launcher.settings import packages
from launcher.settings.table import Settings

_MADE_OF = ("nvidia-ml-py", "supervisor", "paramiko")
_DEADLINE = 60.0  # seconds: cuInit takes 30 where the fabric never gets ready
_NO_GPU = "hardware.none"


def _one() -> int:
    return 1


class Asked(NamedTuple):
    """What `launcher doctor` was asked for."""

    checks: tuple[str, ...] = ()  # ids and layers; none = all
    timeout: float = _DEADLINE  # seconds, for CUDA and PyTorch each
    verbose: bool = False
    json: bool = False
    steps: bool = False  # each layer as soon as it is known
    report: str | None = None  # the file to write
    collective: bool = False  # let the GPUs talk to each other
    # How many nodes the job has that this box is part of; asked where a card could join them.
    count_nodes: Callable[[], int] = _one

    @property
    def talk(self) -> bool:
        return self.collective or (bool(self.checks) and self.of(COLLECTIVE))

    def of(self, layer: str) -> bool:
        """Return whether a check of this layer is asked for; without names, all are."""
        return not self.checks or any(name.partition(".")[0] == layer for name in self.checks)


def diagnose(
    asked: Asked,
    settings: Settings,
    box: tuple[Plan, Machine] | None,
    say: Callable[[str], None],
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[str, int]:
    """Return what to print, and the exit status: 0, or 10 + the number of the broken layer.

    Args:
        box: the plan of the running box and the machine it started on, where they can be read.
        say: for what is to be told while something slow is waited for.
        tell: where it was asked for, hears of each layer as JSON, as soon as it is known.

    Raises BadSetting for a check that does not exist.
    """
    selected = _select(asked.checks)
    listener = Listener(say, Steps(selected, tell).known) if asked.steps else Listener(say)
    seen = collect(asked, settings, box, listener)
    verdict = checks.judge(seen, selected)
    shown = report.text(seen, verdict, verbose=asked.verbose, color=settings.color)
    if asked.report:
        plain = report.text(seen, verdict)
        attachment = report.attachment(seen, verdict, _versions(), plain)
        _write_report(asked.report, json.dumps(attachment, indent=2))
        shown = f"{shown}\n\nwritten to {asked.report}: attach it to your report"
    elif asked.json:
        indent = None if asked.steps else 2  # a line, after those of the layers
        shown = json.dumps(report.document(seen, verdict), indent=indent)
    return shown, verdict.exit_status


class Steps:
    """Tells of each layer as soon as it can be judged; the whole verdict may add a warning."""

    def __init__(self, selected: tuple[Check, ...], tell: Callable[[str], None]) -> None:
        self._selected = selected
        self._tell = tell
        self._told = 0

    def known(self, seen: Evidence, layer: str) -> None:
        """Tell of the layers up to this one."""
        count = LAYERS.index(layer) + 1
        judged = tuple(c for c in self._selected if c.id.partition(".")[0] in LAYERS[:count])
        for row in report.rows(seen, checks.judge(seen, judged))[self._told : count]:
            self._tell(json.dumps({"layer": report.row_json(row)}))
        self._told = count


def collect(
    asked: Asked,
    settings: Settings,
    box: tuple[Plan, Machine] | None,
    listener: Listener,
    root: Path = Path("/"),
) -> Evidence:
    """Return everything that the doctor was asked to look at, of this machine as it is now."""
    plan = box[0] if box else None
    worked_before = bool(box and box[1].report.gpus)

    refused = system_calls.refused()

    def known(seen: Evidence, layer: str) -> None:
        known_now = seen._replace(worked_before=worked_before, refused_calls=refused)
        listener.known(known_now, layer)

    machine = driver.detect_machine(settings, root)
    user = plan.identity.account if plan else machine.host.me
    environ = plan.user_environment() if plan else settings.environ
    heard = Listener(listener.waiting, known)
    python = plan.paths.python if plan else _python(settings, machine)
    programs = Programs(driver.GUEST, python, user, asked.timeout, heard)
    seen = doctor_collect.collect(
        machine,
        environ,
        programs,
        with_torch=asked.talk or asked.of("pytorch"),
        cpu_only=plan.cpu_only if plan else settings.cpu_only,
        root=root,
    )
    cards = rdma.read_rdma(machine.report, root)
    seen = seen._replace(
        worked_before=worked_before,
        refused_calls=refused,
        image_torch=doctor_collect.image_torch(settings.python),
        rdma=cards,
        nodes=asked.count_nodes() if cards else 1,
    )
    return _with_collective(seen, programs, environ, root) if asked.talk else seen


def _python(settings: Settings, machine: Machine) -> str:
    """Return the interpreter of the user's packages, as a box would have planned it."""
    folder = packages.folder(settings, machine.host.python_version)
    python = f"{folder}/bin/python"
    return python if folder and os.access(python, os.X_OK) else settings.python


def _with_collective(
    seen: Evidence, programs: Programs, environ: Mapping[str, str], root: Path
) -> Evidence:
    """Let GPUs talk where each of them works, and the CPU where there is none."""
    failure = checks.judge(seen).failure
    if failure and failure.id != _NO_GPU:
        return seen._replace(collective=collective.not_tried())
    return seen._replace(collective=collective.try_collective(programs, environ, seen, root))


def _select(wanted: Sequence[str]) -> tuple[Check, ...]:
    """Return the checks that are named, by id or by layer; all where none is."""
    for word in wanted:
        if word not in LAYERS and all(check.id != word for check in CHECKS):
            raise BadSetting(
                f"there is no check {word!r}; there are the layers {', '.join(LAYERS)}, "
                "and the checks of docs/doctor.md"
            )
    if not wanted:
        return CHECKS
    return tuple(c for c in CHECKS if c.id in wanted or c.id.partition(".")[0] in wanted)


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {
        "launcher": __version__,
        **{name: version(name) for name in _MADE_OF},
        "python": sys.version.split()[0],
        "kernel": os.uname().release,
    }


def _write_report(path: str, text: str) -> None:
    """Write what is to be published; never over a file that is there."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadSetting(f"cannot write {path}: it exists already") from None
    except OSError as err:
        raise BadSetting(f"cannot write {path}: {err.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text + "\n")
