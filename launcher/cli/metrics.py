"""`launcher metrics`: the box and its GPUs as Prometheus text, without Jupyter."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.model import run_files
from launcher.model.errors import BadSetting, StartFailed
from launcher.settings import environ

if TYPE_CHECKING:
    from launcher.model.plan import Plan

_PATIENCE = 10.0  # seconds for the driver
_SHARED_MEMORY = "/dev/shm"


def metrics(options: Namespace) -> int:
    plan = _plan()
    facts = _facts(plan)
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    _become_the_printer({"box": facts, "gpus": _gpus(plan)}, plan)
    return 0


def _plan() -> Plan | None:
    """Return the running box's plan; None where it is root's to read."""
    from launcher.box import run_dir

    try:
        return run_dir.read_plan()
    except BadSetting:
        return None


def _facts(plan: Plan | None) -> dict[str, Any]:
    """Return how the box is, for whoever asks; what only root may know where root asks."""
    from launcher import __version__
    from launcher.box import run_dir
    from launcher.cli.running import jobs_here, seen_here
    from launcher.model.watch import WatchTarget
    from launcher.watch import status, usage

    workspace = plan.paths.workspace if plan else environ.own().get("WORKSPACE", "/")
    own: dict[str, Any] = {}
    if plan:
        door = run_dir.read_value(WatchTarget, run_files.WATCH).jupyter
        own = {"devices": plan.devices, "kernels": usage.kernels(door) if door else None}
    jobs = jobs_here()
    seen = seen_here(environ.run_dir())._replace(jobs=jobs)
    return {
        "version": __version__,
        **status.document(seen),
        "jobs_text": "\n".join(status.job_lines(jobs, seen.now)),
        "logins": usage.people(),
        "room": usage.room(tuple(dict.fromkeys((_SHARED_MEMORY, "/", workspace)))),
        "limits": _limits(),
        **own,
    }


def _limits() -> dict[str, object]:
    """Return what the box may use beside GPUs: bytes, and in words as the banner has them."""
    from launcher.detect import cgroup, detect
    from launcher.text import banner

    limits = detect.read_limits()
    return {
        "cpus": limits.cpus.usable,
        "memory": limits.memory,
        "memory_available": cgroup.memory_available(Path("/")),
        "text": banner.limits_text(limits),
    }


def _gpus(plan: Plan | None) -> dict[str, object]:
    """Return one line of the sampler."""
    from launcher.process.bounded import Child, wait_for

    argv = [sys.executable, "-I", "-S", f"{_guest()}/gpu_sampler.py"]
    child = Child(argv, _environment(plan), plan.identity.account if plan else None)
    wait_for([child], _PATIENCE, lambda: None)
    none: dict[str, object] = {"gpus": [], "fault": "the driver has not answered", "age": None}
    return {"age": 0.0, **child.answer} if child.answer else none


def _become_the_printer(given: dict[str, Any], plan: Plan | None) -> None:
    """Become the workspace user's Python, which has prometheus_client."""
    from launcher.process import become
    from launcher.settings import load

    python = plan.paths.python if plan else load.user_python()
    text = os.memfd_create("metrics")
    os.write(text, json.dumps(given).encode())
    os.lseek(text, 0, os.SEEK_SET)
    os.dup2(text, 0)
    sys.stdout.flush()
    if plan:
        become.drop_to_user(plan)
    argv = [python, "-I", f"{_guest()}/launcher_metrics.py"]
    try:
        os.execve(python, argv, _environment(plan))
    except OSError as err:
        raise StartFailed(f"cannot run {python}: {err.strerror}") from None


def _environment(plan: Plan | None) -> dict[str, str]:
    return plan.user_environment() if plan else environ.own()


def _guest() -> str:
    from launcher.detect import driver

    return driver.GUEST
