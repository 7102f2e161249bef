"""Start the box: from what was asked of the driver to the services, or to the user's command.

After hooks everything is planned and written anew: their environment and files count.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import time
from collections.abc import Mapping

from launcher.box import files
from launcher.detect import driver
from launcher.detect.adopted import adopt
from launcher.detect.driver import COMMAND_PATIENCE, GUEST, Patience, read_host
from launcher.model import codec
from launcher.model.errors import BadSetting, StartFailed
from launcher.model.host import Host
from launcher.model.machine import Machine
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Finding, Identity, Plan, State
from launcher.pid1 import command as commands
from launcher.pid1 import prepare
from launcher.pid1.begin import Begun, begin
from launcher.pid1.beside import NONE, Beside
from launcher.pid1.supervisor import Supervisor, describe_end
from launcher.plan import environment
from launcher.plan.access import idle_line
from launcher.plan.outset import Outset, set_out
from launcher.plan.plan import make_plan, too_few_gpus
from launcher.process import become, init
from launcher.process.init import Child, Init
from launcher.settings import environ, folders, load
from launcher.settings.meant import reachable
from launcher.settings.table import Settings
from launcher.text import text

# The first line appears by then, whatever the driver does.
_PATIENCE = 0.12
_DISK_TIMEOUT = 20.0


class Children(NamedTuple):
    """What works while PID 1 imports and plans."""

    asked: Child  # the driver
    supervisor: Supervisor
    begun: Begun


def services(box: Init, children: Children, started: float, beside: Beside = NONE) -> int:
    """Start JupyterLab and sshd, and be PID 1 until they end; return the exit status."""
    asked, supervisor, begun = children
    container = environ.own()
    machine = _read_machine(box, asked, begun.settings, begun.host, started, _PATIENCE)
    outset = _set_out(begun, machine, started, container)
    cpu_only = begun.settings.cpu_only
    box.out.say(text.first_line(machine, outset.verdict.failure, cpu_only))
    plan = _make_real(box, begun, outset)
    waited = time.monotonic()
    if _run_hooks(box, begun.settings, for_a_command=False):
        started += time.monotonic() - waited  # from here on the services have their time
        begun = begin(box, said=begun.settings.warnings)
        machine = _after_hooks(box, machine, cpu_only, begun.settings, begun.host)
        outset = _set_out(begun, machine, started, container)
        plan = _make_real(box, begun, outset)
    supervisor.go(begun.settings.run_dir)
    gc.enable()
    beside_pid = beside.start(box, plan)

    def on_signal(number: int) -> None:
        if number == signal.SIGHUP:
            from launcher.pid1.reload import reload  # where it is asked for

            box.spawn_in_turn(lambda: reload(outset, supervisor.pid))
        elif number in init.STOP:
            os.kill(supervisor.pid, signal.SIGTERM)
            if beside_pid and not box.has_ended(beside_pid):
                os.kill(beside_pid, signal.SIGTERM)

    status = box.run_until_end(supervisor.pid, on_signal)
    files.remove_secrets(begun.settings.run_dir)
    code = os.waitstatus_to_exitcode(status)
    if box.stopping:
        return 0
    if code not in (0, StartFailed.exit_code, BadSetting.exit_code):
        raise StartFailed(f"supervise ended by itself: {describe_end(status)}")
    return code


def command(box: Init, asked: Child, argv: list[str], started: float) -> int:
    """Run the user's command with the devices and the environment of the plan."""
    box.hear_every_signal()
    container = environ.own()
    settings = adopt(load.load_settings())
    box.stop_timeout = settings.stop_timeout
    files.take_run_dir(settings.run_dir)
    host, patience = read_host(settings), math.inf if settings.quiet else COMMAND_PATIENCE
    machine = _read_machine(box, asked, settings, host, started, patience)
    outset = set_out(machine, settings, GUEST, started, container=container)
    plan = _prepare(box, outset)
    if _run_hooks(box, settings, for_a_command=True):
        cpu_only, settings = settings.cpu_only, adopt(load.load_settings())
        box.stop_timeout = settings.stop_timeout
        machine = _after_hooks(box, machine, cpu_only, settings, read_host(settings))
        outset = set_out(machine, settings, GUEST, started, container=container)
        plan = _prepare(box, outset)
    if not settings.quiet:
        for line in text.summary_lines(machine, plan, outset.verdict.failure):
            box.out.say(line)
        if text_idle := idle_line(argv, host, settings):
            box.out.say(text_idle)
    argv = list(reachable(argv, plan.identity.is_root))
    box.out.flush(timeout=0.5)
    unwanted = environment.named_by_the_user(settings)  # the rest is as for any command in Docker
    env = {name: value for name, value in settings.environ.items() if name not in unwanted}
    env |= {var.name: var.value for var in plan.environment}
    gc.enable()
    return commands.run_command(box, argv, env, lambda: become.drop_to_user(plan))


def _read_machine(
    box: Init, asked: Child, settings: Settings, host: Host, started: float, silence: float
) -> Machine:
    if settings.cpu_only:
        return driver.without_gpus(box, asked, host)
    patience = Patience(started, settings.detect_timeout, silence)
    return driver.machine(box, asked, host, patience)


def _after_hooks(
    box: Init, before: Machine, was_cpu_only: bool, settings: Settings, host: Host
) -> Machine:
    """Return the machine as it was read, with the box as hooks left it."""
    if was_cpu_only and not settings.cpu_only:  # a hook wants GPUs all the same
        now = time.monotonic()
        return _read_machine(box, driver.ask(box), settings, host, now, COMMAND_PATIENCE)
    return before._replace(host=host)


def _set_out(
    begun: Begun, machine: Machine, started: float, container: Mapping[str, str]
) -> Outset:
    return set_out(machine, begun.settings, GUEST, started, begun.identity, container)


def _make_real(box: Init, begun: Begun, outset: Outset) -> Plan:
    """Plan the services and write everything that they read."""
    settings = outset.settings
    answer = _answer(box, begun.opening, "open its state", _patience(begun.identity))
    state = codec.from_json(State, answer)
    for remark in state.remarks:
        box.out.say(f"launcher: {remark}")
    plan = make_plan(outset, state)
    _check_cuda(box, outset, plan)
    files.remove_stale(settings.run_dir, plan.identity.account.uid)
    written = box.fork(lambda: prepare.write_files(plan, outset.machine, settings))
    _answer(box, written, "write its files")
    return plan


def _prepare(box: Init, outset: Outset) -> Plan:
    """Return the plan of a command, and make real what it needs."""
    plan = make_plan(outset, None)
    _check_cuda(box, outset, plan)
    if outset.machine.host.image:
        child = box.fork(lambda: prepare.for_a_command(plan, outset.machine.host))
        _answer(box, child, "prepare the account", _patience(plan.identity))
    return plan


def _run_hooks(box: Init, settings: Settings, for_a_command: bool) -> bool:
    """Run the hooks, and take their environment for ours; return whether there were any.

    Whatever they changed, here or in files, counts when everything is planned anew after them.
    """
    if not folders.may_have_hooks():
        return False
    from launcher.pid1 import hooks

    found = hooks.find(for_a_command)
    quiet = for_a_command and settings.quiet
    left_out = hooks.safe_mode_lines(found.hooks) if settings.safe_mode else found.remarks
    for line in () if quiet else left_out:
        box.out.say(f"launcher: {line}")
    if not found.hooks or settings.safe_mode:
        return False
    own, log = environ.own(), 2 if for_a_command else 1  # a command's standard output is its own
    go_on = settings.hooks == "warn"
    child = box.fork(
        lambda: _encode(hooks.run_hooks(found.hooks, own, log, go_on=go_on, quiet=quiet))
    )
    changes = codec.from_json(hooks.Changes, _answer(box, child, "run the hooks", math.inf))
    environ.replace(changes.applied_to(own))
    return True


class _Tried(NamedTuple):
    """What CUDA gave the user's environment."""

    devices: int
    failure: Finding | None


def _check_cuda(box: Init, outset: Outset, plan: Plan) -> None:
    """Try CUDA itself, where GPUs are required: NVML may count what CUDA cannot open.

    Raises NoUsableGpu.
    """
    settings = outset.settings
    if not settings.require_gpu:
        return
    child = box.fork(lambda: _try_cuda(outset.machine, settings, plan))
    # As given, and where that is not well, once more with less in its way.
    answer = _answer(box, child, "try CUDA", 2 * settings.detect_timeout + _DISK_TIMEOUT)
    tried = codec.from_json(_Tried, answer)
    if tried.devices < settings.require_gpu:
        raise too_few_gpus(settings.require_gpu, tried.devices, tried.failure)


# --- what the children do --------------------------------------------------------------------


def _try_cuda(machine: Machine, settings: Settings, plan: Plan) -> bytes:
    from launcher import checks
    from launcher.doctor import collect
    from launcher.doctor.trials import Programs

    user, deadline = plan.identity.account, settings.detect_timeout
    programs = Programs(GUEST, settings.python, user, deadline)
    seen = collect.collect(machine, plan.user_environment(), programs, with_torch=False)
    devices = len(seen.given.devices) if seen.given else 0
    return _encode(_Tried(devices, checks.judge(seen).failure))


def _encode(value: object) -> bytes:
    return codec.to_json(value, reveal=True).encode()


def _patience(who: Identity) -> float:
    """Return the seconds that making an account real may take: people ask for what takes long."""
    lasting = who.chown_home == "all" or (who.chown_extra and who.chown_extra_all)
    return math.inf if lasting else _DISK_TIMEOUT


# --- waiting for them ------------------------------------------------------------------------


def _answer(box: Init, child: Child, task: str, timeout: float = _DISK_TIMEOUT) -> bytes:
    """Return what `child` answers.

    Raises BadSetting for what is the user's to mend, StartFailed for anything else, in the
    child's own words where it has some.
    """
    if not box.wait_for(child, timeout):
        raise StartFailed(f"cannot {task}: no answer within {timeout:g} s; is the disk well?")
    assert child.status is not None
    code, said = os.waitstatus_to_exitcode(child.status), child.answer.decode(errors="replace")
    for kind in (BadSetting, StartFailed):
        if said and code == kind.exit_code:
            raise kind(said)
    if child.status != 0:
        raise StartFailed(f"cannot {task}: {init.describe_end(child.status)}")
    return bytes(child.answer)
