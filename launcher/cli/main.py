"""The command line: the only place that prints to the user and that picks exit codes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from launcher.cli.help import HELP
from launcher.model import run_files
from launcher.model.errors import BadSetting, LauncherError, StartFailed
from launcher.settings import environ


def entrypoint(argv: Sequence[str], started: float) -> int:
    """Be PID 1.  Imports nothing that the way to the banner does not need.

    Args:
        started: CLOCK_MONOTONIC at the start of the process, seconds.
    """
    from launcher.pid1 import boot

    return boot.run(argv, started)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments.pop(0) if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(HELP)
        return 0
    command = _COMMANDS.get(name)
    if command is None:
        print(f"launcher: there is no command {name!r}\n\n{HELP}", file=sys.stderr)
        return 2
    try:
        status = command(arguments)
        sys.stdout.flush()  # here, and not at exit: a reader may have gone
        return status
    except LauncherError as err:
        print(f"launcher: {err}", file=sys.stderr)
        return err.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # else Python complains at exit
        return 1


# --- what is running -----------------------------------------------------------------------


def _banner(arguments: list[str]) -> int:
    from launcher.box import run_dir as box_run_dir

    print(box_run_dir.read_file(run_files.BANNER), end="")
    return 0


def _url(arguments: list[str]) -> int:
    from launcher.box import run_dir as box_run_dir
    from launcher.text import banner

    plan = box_run_dir.read_plan()
    if plan is None or plan.jupyter is None:
        raise BadSetting("no Jupyter runs here")
    if plan.jupyter.hub:
        raise BadSetting(f"JupyterHub opens it: {plan.jupyter.hub.url or 'ask your hub'}")
    print(banner.jupyter_url(plan.jupyter))
    return 0


def _keys(arguments: list[str]) -> int:
    from launcher.box import keys
    from launcher.process import become

    def read_stdin() -> str:
        return sys.stdin.buffer.read(1 << 20).decode(errors="surrogateescape")

    if os.geteuid() == 0:  # root's ssh-keygen is not to be found where a user may write
        run_dir = environ.run_dir()
        environ.replace({"PATH": become.launcher_path(), "LAUNCHER_RUN_DIR": run_dir})
    print(keys.run_keys_command(arguments, read_stdin))
    return 0


def _restart(arguments: list[str]) -> int:
    from launcher.supervise import control, programs

    if len(arguments) != 1:
        there = control.offered(programs.read_programs(environ.run_dir())) or ["jupyter", "ssh"]
        raise BadSetting(f"usage: launcher restart {'|'.join(there)}")
    control.restart(environ.run_dir(), arguments[0])
    print(f"launcher: {arguments[0]} is restarted")
    return 0


def _healthcheck(arguments: list[str]) -> int:
    from launcher.watch import health

    reason = None if health.in_command_mode() else health.check_health(environ.run_dir())
    if reason:
        print(reason)
    return 1 if reason else 0


def _status(arguments: list[str]) -> int:
    from launcher.supervise import programs
    from launcher.watch import health, status

    if arguments not in ([], ["--json"]):
        raise BadSetting("usage: launcher status [--json]")
    if health.in_command_mode():
        raise BadSetting("this box runs a command and no services; about its GPUs: launcher doctor")
    run_dir = environ.run_dir()
    if not os.path.exists(f"{run_dir}/{run_files.PLAN}"):
        raise BadSetting(f"no box runs here: {run_dir} has no plan")
    report = health.read_health(run_dir)
    reason = health.why_unhealthy(report, run_dir)
    seen = status.Seen(reason, report or {}, programs.read_programs(run_dir), time.monotonic())
    color = sys.stdout.isatty() and not environ.own().get("NO_COLOR")
    print(status.as_json(seen) if arguments else status.as_text(seen, color))
    return 1 if reason else 0


def _watch(arguments: list[str]) -> int:
    from launcher.watch import watch

    watch.watch_box(environ.run_dir(), lambda text: print(text, flush=True))
    return 0


def _post_start(arguments: list[str]) -> int:
    from launcher.supervise import post_start

    post_start.run_post_start(environ.run_dir())
    return 0


def _exec(arguments: list[str]) -> int:
    from launcher.box import run_dir as box_run_dir
    from launcher.process import become
    from launcher.render import shell

    if arguments[:1] == ["--"] and arguments[1:]:
        plan = box_run_dir.read_plan()
        if plan is None:
            raise BadSetting("no box runs here, so there is no environment to run in")
        become.drop_to_identity(plan.identity)
        env = shell.exec_environment(plan, environ.own())
        return _replace_process(arguments[1:], env)
    if len(arguments) != 1 or arguments == ["--"]:
        raise BadSetting("usage: launcher exec NAME, or: launcher exec -- CMD …")
    become.become(become.load(environ.run_dir(), arguments[0]))
    return 0


def _replace_process(argv: list[str], env: dict[str, str]) -> int:
    from launcher.process.fork import restore_signals

    restore_signals()
    try:
        os.execvpe(argv[0], argv, env)
    except FileNotFoundError:
        print(f"launcher: cannot run {argv[0]!r}: not found", file=sys.stderr)
        return 127
    except OSError as err:
        print(f"launcher: cannot run {argv[0]!r}: {err.strerror}", file=sys.stderr)
        return 126


# --- the pipeline, one stage at a time -----------------------------------------------------


def _detect(arguments: list[str]) -> int:
    from launcher.detect import driver
    from launcher.model import codec
    from launcher.settings import load

    print(codec.to_json(driver.detect_machine(load.load()), indent=2))
    return 0


def _topo(arguments: list[str]) -> int:
    from launcher.detect import driver, sysfs
    from launcher.model import codec
    from launcher.settings import load
    from launcher.text import topology

    if arguments not in ([], ["--json"]):
        raise BadSetting("usage: launcher topo [--json]")
    report = driver.detect_machine(load.load()).report
    if report.failure:
        raise StartFailed(
            f"cannot read the topology: {report.failure.reason}; see: launcher doctor"
        )
    nics = sysfs.read_nics(report)
    if arguments:
        print(codec.to_json(topology.survey(report, nics), indent=2))
    else:
        print("\n".join(topology.topology_lines(report, nics)))
    return 0


def _record(arguments: list[str]) -> int:
    from launcher.detect import driver
    from launcher.gpus import record
    from launcher.settings import load

    machine = driver.detect_machine(load.load())
    print(record.describe(machine.report, machine.hardware.kernel_driver), end="")
    return 0


def _plan(arguments: list[str]) -> int:
    from launcher.box import run_dir as box_run_dir
    from launcher.model import codec
    from launcher.pid1 import boot
    from launcher.settings import load

    plan = box_run_dir.read_plan() or boot.preview_plan(load.load())
    print(codec.to_json(plan, indent=2))
    return 0


def _render(arguments: list[str]) -> int:
    from dataclasses import replace

    from launcher.box import files
    from launcher.box import run_dir as box_run_dir
    from launcher.pid1 import boot
    from launcher.render.files import render
    from launcher.settings import load

    if len(arguments) != 1:
        raise BadSetting("usage: launcher render DIR")
    plan = box_run_dir.read_plan() or boot.preview_plan(load.load())
    top = os.path.abspath(arguments[0])
    files.write([replace(file, path=top + file.path) for file in render(plan)])
    return 0


def _start(arguments: list[str]) -> int:
    return entrypoint((), time.monotonic())


def _doctor(arguments: list[str]) -> int:
    from launcher.box import run_dir as box_run_dir
    from launcher.doctor import doctor
    from launcher.settings import load

    def say(text: str) -> None:
        print(f"doctor: {text}", file=sys.stderr, flush=True)

    text, status = doctor.diagnose(arguments, load.load(), box_run_dir.read_box(), say)
    print(text)
    return status


def _settings(arguments: list[str]) -> int:
    from launcher.settings import load

    print("\n".join(load.describe()))
    return 0


_COMMANDS = {
    "banner": _banner,
    "keys": _keys,
    "restart": _restart,
    "url": _url,
    "doctor": _doctor,
    "settings": _settings,
    "exec": _exec,
    "status": _status,
    "healthcheck": _healthcheck,
    "detect": _detect,
    "topo": _topo,
    "record": _record,
    "plan": _plan,
    "post-start": _post_start,
    "render": _render,
    "start": _start,
    "watch": _watch,
}


if __name__ == "__main__":
    sys.exit(main())
