"""`launcher doctor`: collect evidence, judge it, say which layer is broken and what mends it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from launcher import __version__, checks
from launcher.checks import CHECKS, LAYERS
from launcher.checks.check import Check
from launcher.detect import driver
from launcher.doctor import collect as doctor_collect
from launcher.doctor import report
from launcher.doctor.trials import Programs
from launcher.model.errors import BadSetting
from launcher.model.evidence import Evidence
from launcher.model.machine import Machine
from launcher.model.plan import Plan
from launcher.settings.table import Settings

_MADE_OF = ("nvidia-ml-py", "supervisor", "paramiko")
_DEADLINE = 60.0  # seconds: cuInit takes 30 where the fabric never gets ready


def diagnose(
    arguments: Sequence[str],
    settings: Settings,
    box: tuple[Plan, Machine] | None,
    say: Callable[[str], None],
) -> tuple[str, int]:
    """Return what to print, and the exit status: 0, or 10 + the number of the broken layer.

    Args:
        box: the plan of the running box and the machine it started on, where they can be read.
        say: for what is to be told while something slow is waited for.

    Raises BadSetting for a check that does not exist, SystemExit as argparse does.
    """
    options = _parser().parse_args(list(arguments))
    selected = _select(options.checks)
    with_torch = any(check.id.startswith("pytorch.") for check in selected)
    seen = collect(settings, box, say, deadline=options.timeout, with_torch=with_torch)
    verdict = checks.judge(seen, selected)
    shown = report.text(seen, verdict, verbose=options.verbose, color=settings.color)
    if options.report:
        plain = report.text(seen, verdict)
        attachment = report.attachment(seen, verdict, _versions(), plain)
        _write_report(options.report, json.dumps(attachment, indent=2))
        shown = f"{shown}\n\nwritten to {options.report}: attach it to your report"
    elif options.json:
        shown = json.dumps(report.document(seen, verdict), indent=2)
    return shown, verdict.exit_status


def collect(
    settings: Settings,
    box: tuple[Plan, Machine] | None,
    say: Callable[[str], None],
    *,
    deadline: float = _DEADLINE,
    with_torch: bool = True,
    root: Path = Path("/"),
) -> Evidence:
    """Return everything that the doctor looks at, of this machine as it is now."""
    plan = box[0] if box else None
    machine = driver.detect_machine(settings, root)
    user = plan.identity.account if plan else machine.host.me
    return doctor_collect.collect(
        machine,
        plan.user_environment() if plan else settings.environ,
        Programs(driver.GUEST, settings.python, user, deadline, say),
        with_torch=with_torch,
        worked_before=bool(box and box[1].report.gpus),
        root=root,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="launcher doctor",
        description="Say which layer of the GPU stack is broken, and the command that mends it.",
        epilog=f"Layers, lowest first: {', '.join(LAYERS)}.  Exit status: 0 when healthy, else "
        "10 + the number of the layer that is broken.  docs/doctor.md describes every check.",
    )
    parser.add_argument(
        "checks",
        nargs="*",
        metavar="ID",
        help="look at these checks or layers alone: driver, runtime.cgroup …",
    )
    parser.add_argument("--json", action="store_true", help="print verdict and evidence as JSON")
    parser.add_argument("--verbose", action="store_true", help="print the evidence too")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_DEADLINE,
        metavar="SECONDS",
        help="how long CUDA and PyTorch may take each (%(default)g)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help="write one file to attach to a bug report: no secret, no serial number, no UUID",
    )
    return parser  # fmt: skip


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
    return {
        "launcher": __version__,
        **{name: version(name) for name in _MADE_OF},
        "python": sys.version.split()[0],
        "kernel": platform.release(),
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
