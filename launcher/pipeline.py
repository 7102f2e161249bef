"""The order of things: detect → plan → render → run.  What PID 1 does, from exec to exit.

The driver is asked in one child, the state directory opened in a second, and supervisor
imported in a third, all at once: none of the three needs another, and each may be slow.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher import (
    become,
    codec,
    command,
    config,
    detect,
    driver,
    environment,
    home,
    identity,
    init,
    notes,
    report,
    service,
)
from launcher.errors import BadSetting, LauncherError, StartFailed
from launcher.init import Child, Init
from launcher.machine import Host, Machine
from launcher.model import Certificate, Finding, Plan, Secret, State
from launcher.plan import make_plan, too_few_gpus
from launcher.pump import Pump
from launcher.render import command_files, machine_file, render
from launcher.settings import Settings

# The first line appears by then, whatever the driver does.
_PATIENCE = 0.12
# A command's standard error is its own: one line of ours, unless the driver is really stuck.
_COMMAND_PATIENCE = 2.0
_DISK_TIMEOUT = 20.0
GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest")


def run(argv: Sequence[str], started: float) -> int:
    """Be the box: services without arguments, else that command.  Returns the exit status."""
    out = Pump(2 if argv else 1)
    box = Init(out)
    try:
        asked = driver.ask(box)
        if argv:
            return _run_command(box, asked, list(argv), started)
        return _run_services(box, asked, started)
    except init.Stopped as stop:
        return 128 + stop.number if argv else 0
    except LauncherError as err:
        for line in str(err).splitlines():
            out.say(f"launcher: {line}")
        return err.exit_code
    finally:
        box.end_stragglers()
        out.flush(timeout=0.5)


def detect_machine(settings: Settings, root: Path = Path("/")) -> Machine:
    """Return what this machine is, without starting anything."""
    box = Init(Pump(2))
    asked = driver.ask(box, root)
    host = _read_host(settings, root)
    return driver.machine(
        box, asked, host, time.monotonic(), settings.detect_timeout, _COMMAND_PATIENCE, root
    )


def preview_plan(settings: Settings) -> Plan:
    """Return what a start would do here; the secrets in it are made up."""
    machine = detect_machine(settings)
    made_up = Secret("made-at-the-start")
    certificate = Certificate("", made_up, self_signed=settings.tls_cert is None)
    state = State(made_up, made_up, None, certificate=certificate if settings.https else None)
    return make_plan(machine, settings, state, GUEST, time.monotonic())


def _read_host(settings: Settings, root: Path = Path("/")) -> Host:
    return detect.read_host(
        settings.environ, settings.user, settings.workspace, root, settings.python
    )


# --- the two ways to run ---------------------------------------------------------------------


def _run_services(box: Init, asked: Child, started: float) -> int:
    go = os.pipe()
    supervise_pid = box.spawn(lambda: _supervise(*go))
    os.close(go[0])
    settings = config.load()
    for warning in settings.warnings:
        box.out.say(f"launcher: {warning}")
    host = _read_host(settings)
    state_child = box.fork(lambda: _encode(_open_state(settings, host)))
    machine = driver.machine(box, asked, host, started, settings.detect_timeout, _PATIENCE)
    box.out.say(report.first_line(machine, notes.judge(machine, settings).failure))
    state = codec.from_json(State, _answer(box, state_child, "open its state"))
    plan = make_plan(machine, settings, state, GUEST, started)
    _check_cuda(box, machine, settings, plan)
    service.remove_stale(settings.run_dir)
    _answer(box, box.fork(lambda: _write(plan, machine)), "write its files")
    os.write(go[1], settings.run_dir.encode())
    os.close(go[1])
    gc.enable()

    def on_signal(number: int) -> None:
        if number == signal.SIGHUP:
            box.spawn(lambda: _reload(machine, started, supervise_pid))
        elif number in init.STOP:
            os.kill(supervise_pid, signal.SIGTERM)

    status = box.run_until_end(supervise_pid, on_signal)
    code = os.waitstatus_to_exitcode(status)
    if box.stopping:
        return 0
    if code not in (0, StartFailed.exit_code):
        raise StartFailed(f"supervise ended by itself: {init.describe_end(status)}")
    return code


def _run_command(box: Init, asked: Child, argv: list[str], started: float) -> int:
    settings = config.load()
    host = _read_host(settings)
    patience = math.inf if settings.quiet else _COMMAND_PATIENCE
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
    return command.run(box, argv, env, lambda: become.drop_to_identity(plan.identity))


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


def _supervise(go_reader: int, go_writer: int) -> int:
    """Import supervisor while the plan is made, then wait for the word to start."""
    os.close(go_writer)
    os.setpgid(0, 0)  # Ctrl-C is PID 1's to hear
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until supervisor hears it, no reason to end
    from launcher import supervise

    gc.enable()
    run_dir = os.read(go_reader, 4096).decode()
    os.close(go_reader)
    return supervise.run(run_dir) if run_dir else 0


def _prepare_to_run_programs() -> None:
    """Let root find ssh-keygen and chpasswd where only root can put them.

    The container's PATH starts with the user's environment, which the user writes to.  A program
    that ends before it has read its input is an error to handle, not our end.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if os.geteuid() == 0:
        config.replace_environment({"PATH": become.launcher_path()})


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
            config.replace_environment({**config.own_environment(), **names})
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
    except LauncherError as err:
        out.say(f"launcher: not reloaded, everything stays as it was: {err}")
        return err.exit_code
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
