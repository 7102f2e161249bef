"""Commands about the box that runs here: what it said, how it is, who may come in."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from typing import TYPE_CHECKING

from launcher.model import run_files, services
from launcher.model.errors import BadSetting
from launcher.model.printable import printable_text
from launcher.settings import environ

if TYPE_CHECKING:
    from launcher.watch.seen import Job, Seen


_OURSELVES = "launcher"
_MOMENT = 0.25  # seconds in which a job's traffic is measured


def banner(options: Namespace) -> int:
    from launcher.box import run_dir

    print(printable_text(run_dir.read_file(run_files.BANNER)), end="")
    return 0


def url(options: Namespace) -> int:
    from launcher.box import privilege, run_dir
    from launcher.text import banner as text

    plan = run_dir.read_plan()
    if plan is None or plan.jupyter is None:
        raise BadSetting(f"no Jupyter runs here{privilege.of_another()}")
    if plan.jupyter.hub:
        raise BadSetting(f"JupyterHub opens it: {plan.jupyter.hub.url or 'ask your hub'}")
    for note in (one for one in plan.notes if one.id == "network.none"):
        print(f"launcher: {note.what}: {note.means}; fix: {note.fix}", file=sys.stderr)
    found = text.jupyter_url(plan.jupyter)
    print(json.dumps({"url": found}) if options.json else found)
    return 0


def status(options: Namespace) -> int:
    from launcher.watch import status as text

    jobs = jobs_here()
    color = environ.wants_color(environ.own(), sys.stdout.isatty())
    try:
        seen = seen_here(environ.run_dir())._replace(jobs=jobs)
    except BadSetting:  # a box that runs a command, or none; a job of torchrun's may be there
        if not jobs:
            raise
        now = time.monotonic()
        data = {"jobs": text.jobs_as_data(jobs, now)}
        lines = text.job_lines(jobs, now, color)
        print(json.dumps(data, indent=2) if options.json else "\n".join(lines))
        return 0
    print(text.as_json(seen) if options.json else text.as_text(seen, color))
    return 1 if seen.reason else 0


def jobs_here() -> tuple[Job, ...]:
    """Return the jobs of torchrun's that run here, with what goes through their interfaces."""
    from launcher.detect import jobs
    from launcher.watch.seen import Job
    from launcher.watch.status import moved

    found = jobs.read_jobs()
    names = {one.name for each in found for one in each.job.before}
    began, first = time.monotonic(), jobs.read_traffic(names)
    if first:
        time.sleep(_MOMENT)
    now, seconds = jobs.read_traffic(names), max(_MOMENT, time.monotonic() - began)
    rows = []
    for pid, job in found:
        own = [one for one in now if one.name in {each.name for each in job.before}]
        total, rates = moved(job.before, own), moved(first, own, seconds)
        rows.append(Job(pid, job, tuple(total), tuple(rates)))
    return tuple(rows)


def seen_here(run_dir: str) -> Seen:
    """Return what the files of the running box say.  Raises BadSetting where none runs."""
    from launcher.box import privilege
    from launcher.supervise import programs
    from launcher.watch import health
    from launcher.watch.seen import Seen

    if health.in_command_mode():
        raise BadSetting("this box runs a command and no services; about its GPUs: launcher doctor")
    if not os.path.exists(f"{run_dir}/{run_files.PLAN}"):
        raise BadSetting(f"no box runs here: {run_dir} has no plan{privilege.of_another()}")
    report = health.read_health(run_dir)
    reason = health.why_unhealthy(report, run_dir)
    return Seen(reason, report or {}, programs.read_programs(run_dir), time.monotonic())


def keys(options: Namespace) -> int:
    from launcher.box import keys as box_keys
    from launcher.process import become

    def read_stdin() -> str:
        return sys.stdin.buffer.read(1 << 20).decode(errors="surrogateescape")

    if os.geteuid() == 0:  # root's ssh-keygen is not to be found where a user may write
        run_dir = environ.run_dir()
        environ.replace({"PATH": become.launcher_path(), "LAUNCHER_RUN_DIR": run_dir})
    print(box_keys.run_keys_command([options.what, *options.key], read_stdin))
    return 0


def logs(options: Namespace) -> int:
    from launcher.box import privilege, program_logs

    run_dir = environ.run_dir()
    if options.name == _OURSELVES:
        return _own_lines(options.lines)
    try:
        there = program_logs.names(run_dir)
    except PermissionError:
        raise privilege.only_root("logs") from None
    if not there:
        why = f"{run_dir}/{run_files.LOG} has none{privilege.of_another()}"
        raise BadSetting(f"no box runs here that keeps logs: {why}")
    name = services.program_of(options.name) if options.name else None
    if name is not None and name not in there:
        known = ", ".join(map(services.service_of, there))
        raise BadSetting(f"there is no log of {options.name}; there are those of: {known}")
    found = program_logs.Logs(run_dir, [name] if name else there)
    for line in found.last(options.lines):
        print(printable_text(line))
    if options.follow:
        sys.stdout.flush()
        for line in found.follow():
            print(printable_text(line), flush=True)
    return 0


def _own_lines(count: int) -> int:
    from launcher.box import run_dir

    here = environ.run_dir()
    if os.path.exists(f"{here}/{run_files.HEALTH}") and not os.path.exists(
        f"{here}/{run_files.SAID}"
    ):
        print("launcher: nothing to say so far")
        return 0
    lines = run_dir.read_file(run_files.SAID).splitlines()
    print(printable_text("\n".join(lines[-count:] if count > 0 else [])))
    return 0


def start(options: Namespace) -> int:
    """Without a name, be the box; with one, start a program of the box that runs."""
    if options.name is None:
        if options.background:
            from launcher.cli import background

            return background.start_box()
        from launcher.pid1 import boot

        return boot.be_the_box((), time.monotonic())
    return _tell("start", "is started", options.name)


def run(options: Namespace) -> int:
    """Run a command as the container's entrypoint would have."""
    from launcher.pid1 import boot

    if not options.words:
        raise BadSetting("usage: launcher run -- CMD …")
    return boot.be_the_box(options.words, time.monotonic())


def stop(options: Namespace) -> int:
    return _tell("stop", "is stopped", options.name)


def restart(options: Namespace) -> int:
    return _tell("restart", "is restarted", options.name)


def _tell(action: str, done: str, name: str) -> int:
    from launcher.supervise import control

    control.tell(environ.run_dir(), action, name)
    print(f"launcher: {name} {done}")
    return 0


def reload(options: Namespace) -> int:
    from launcher.supervise import control

    control.reload(environ.run_dir())
    print("launcher: keys and configuration reloaded")
    return 0
