"""Start the box: from what was asked of the driver to the services, or to the user's command.

The state directory is opened in a child, the files are written in another: each may be slow.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
from dataclasses import dataclass, replace

from launcher import (
    become,
    codec,
    config,
    driver,
    environ,
    environment,
    home,
    identity,
    init,
    notes,
    report,
    service,
)
from launcher import command as commands
from launcher.errors import BadSetting, LauncherError, StartFailed, reason
from launcher.init import Child, Init
from launcher.machine import Host, Machine
from launcher.model import Finding, Plan, State
from launcher.pipeline import COMMAND_PATIENCE, GUEST, Supervisor, read_host
from launcher.plan import make_plan, too_few_gpus
from launcher.pump import Pump
from launcher.render import command_files, machine_file, render
from launcher.settings import Settings

# The first line appears by then, whatever the driver does.
_PATIENCE = 0.12
_DISK_TIMEOUT = 20.0


def services(box: Init, asked: Child, supervisor: Supervisor, started: float) -> int:
    """Start JupyterLab and sshd, and be PID 1 until they end; return the exit status."""
    settings = config.load()
    for warning in settings.warnings:
        box.out.say(f"launcher: {warning}")
    host = read_host(settings)
    state_child = box.fork(lambda: _encode(_open_state(settings, host)))
    machine = driver.machine(box, asked, host, started, settings.detect_timeout, _PATIENCE)
    box.out.say(report.first_line(machine, notes.judge(machine, settings).failure))
    state = codec.from_json(State, _answer(box, state_child, "open its state"))
    plan = make_plan(machine, settings, state, GUEST, started)
    _check_cuda(box, machine, settings, plan)
    service.remove_stale(settings.run_dir)
    _answer(box, box.fork(lambda: _write(plan, machine)), "write its files")
    supervisor.go(settings.run_dir)
    gc.enable()

    def on_signal(number: int) -> None:
        if number == signal.SIGHUP:
            box.spawn(lambda: _reload(machine, started, supervisor.pid))
        elif number in init.STOP:
            os.kill(supervisor.pid, signal.SIGTERM)

    status = box.run_until_end(supervisor.pid, on_signal)
    code = os.waitstatus_to_exitcode(status)
    if box.stopping:
        return 0
    if code not in (0, StartFailed.exit_code):
        raise StartFailed(f"supervise ended by itself: {init.describe_end(status)}")
    return code


def command(box: Init, asked: Child, argv: list[str], started: float) -> int:
    """Run the user's command with the devices and the environment of the plan."""
    settings = config.load()
    host = read_host(settings)
    patience = math.inf if settings.quiet else COMMAND_PATIENCE
    machine = driver.machine(box, asked, host, started, settings.detect_timeout, patience)
    plan = make_plan(machine, settings, None, GUEST, started)
    _check_cuda(box, machine, settings, plan)
    if host.image:
        _answer(box, box.fork(lambda: _prepare_for_a_command(plan)), "prepare the account")
    if not settings.quiet:
        for line in report.summary_lines(machine, plan, notes.judge(machine, settings).failure):
            box.out.say(line)
    box.out.flush(timeout=0.5)
    unwanted = environment.named_by_the_user(settings)  # the rest is as for any command in Docker
    env = {name: value for name, value in settings.environ.items() if name not in unwanted}
    env |= {var.name: var.value for var in plan.environment}
    gc.enable()
    return commands.run(box, argv, env, lambda: become.drop_to_identity(plan.identity))


@dataclass(frozen=True)
class _Tried:
    """What CUDA gave the user's environment."""

    devices: int
    failure: Finding | None


def _check_cuda(box: Init, machine: Machine, settings: Settings, plan: Plan) -> None:
    """Try CUDA itself, where GPUs are required: NVML may count what CUDA cannot open.

    Raises NoUsableGpu.
    """
    if not settings.require_gpu:
        return
    child = box.fork(lambda: _try_cuda(machine, settings, plan))
    # As given, and where that is not well, once more with less in its way.
    answer = _answer(box, child, "try CUDA", 2 * settings.detect_timeout + _DISK_TIMEOUT)
    tried = codec.from_json(_Tried, answer)
    if tried.devices < settings.require_gpu:
        raise too_few_gpus(settings.require_gpu, tried.devices, tried.failure)


# --- what the children do --------------------------------------------------------------------


def _try_cuda(machine: Machine, settings: Settings, plan: Plan) -> bytes:
    from launcher import checks, probe

    seen = probe.collect(
        machine, plan.user_environment(), user=plan.identity.account, python=settings.python,
        guest=GUEST, deadline=settings.detect_timeout, with_torch=False,
    )  # fmt: skip
    devices = len(seen.given.devices) if seen.given else 0
    return _encode(_Tried(devices, checks.judge(seen).failure))


def _prepare_to_run_programs() -> None:
    """Let root find ssh-keygen and chpasswd where only root can put them.

    The container's PATH starts with the user's environment, which the user writes to.  A program
    that ends before it has read its input is an error to handle, not our end.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if os.geteuid() == 0:
        environ.replace({"PATH": become.launcher_path()})


def _prepare_for_a_command(plan: Plan) -> bytes:
    """Make the account and its home real, as far as that goes: the command runs in any case."""
    _prepare_to_run_programs()
    with contextlib.suppress(LauncherError, OSError):
        home.write_names(plan.identity, plan.paths.run)
    with contextlib.suppress(LauncherError, OSError):
        service.write(command_files(plan))
    with contextlib.suppress(OSError):
        home.make_home(plan.identity)
    return b""


def _open_state(settings: Settings, host: Host) -> State:
    _prepare_to_run_programs()
    who = identity.plan_identity(host, settings)
    fault = None
    if host.image:
        home.write_names(who, settings.run_dir)
        names = {var.name: var.value for var in identity.name_variables(who, host, settings)}
        if os.geteuid() != 0:  # without a name ssh-keygen refuses to do anything
            environ.replace({**environ.own(), **names})
        fault = home.make_home(who)
    state = service.open_state(settings.state_dir, settings.key_lines, login_key=not host.image)
    state = replace(state, home_fault=fault)
    if not settings.https:
        return state
    from launcher import certificate  # in this child, and where https is asked for

    return replace(state, certificate=certificate.provide(settings))


def _write(plan: Plan, machine: Machine) -> bytes:
    _prepare_to_run_programs()
    service.check_temporary_directory()
    if plan.ssh:
        service.prepare_sshd(plan.identity.account.uid)
        fault = service.set_password(plan.ssh.user, plan.ssh.password)
        if fault:
            ssh = replace(plan.ssh, password=None, password_why=f"cannot set one: {fault}")
            plan = replace(plan, ssh=ssh)
    service.write((*render(plan), machine_file(plan, machine)))
    service.check_room(plan.paths.run)
    return b""


def _reload(machine: Machine, started: float, supervise_pid: int) -> int:
    """HUP: read the settings' files again, rewrite keys and configuration, tell supervise.

    What runs keeps running: nothing here ends a kernel or a login.
    """
    out = Pump(1)
    idle = replace(machine.host, busy_ports=frozenset())  # those in use now are our own
    machine = replace(machine, host=idle)
    try:
        settings = config.load()
        plan = make_plan(machine, settings, _open_state(settings, idle), GUEST, started)
        _write(plan, machine)
    except (LauncherError, OSError) as err:
        why = reason(err) if isinstance(err, OSError) else err
        out.say(f"launcher: not reloaded, everything stays as it was: {why}")
        return StartFailed.exit_code
    os.kill(supervise_pid, signal.SIGHUP)
    out.say("launcher: keys and configuration reloaded")
    return 0


def _encode(value: object) -> bytes:
    return codec.to_json(value, reveal=True).encode()


# --- waiting for them ------------------------------------------------------------------------


def _answer(box: Init, child: Child, task: str, timeout: float = _DISK_TIMEOUT) -> bytes:
    """Return what `child` answers.

    Raises BadSetting for what is the user's to mend, StartFailed for anything else.
    """
    if not box.wait_for(child, timeout):
        raise StartFailed(f"cannot {task}: no answer within {timeout:g} s; is the disk well?")
    assert child.status is not None
    if os.waitstatus_to_exitcode(child.status) == BadSetting.exit_code:
        raise BadSetting(child.answer.decode(errors="replace"))
    if child.status != 0:
        raise StartFailed(f"cannot {task}: {init.describe_end(child.status)}")
    return bytes(child.answer)
