"""What must be there before anything starts: the account, the state, the files.

For children of PID 1, since each may be slow, and has an environment of its own to change.
"""

from __future__ import annotations

import contextlib
import os
import signal

from launcher.box import files, home, ownership, sshd
from launcher.box import state as box_state
from launcher.box.ca_bundle import write_ca_bundle
from launcher.checks.facts import forbidden
from launcher.detect import system_calls
from launcher.model.errors import BadSetting, LauncherError
from launcher.model.host import Host
from launcher.model.machine import Machine
from launcher.model.plan import Identity, Plan, State
from launcher.plan.identity import name_variables, takes_workspace
from launcher.plan.watch import plan_watch
from launcher.process import become
from launcher.process.pump import Pump
from launcher.render.files import command_files, machine_file, plan_file, render, watch_file
from launcher.render.sshd import sshd_service
from launcher.settings import environ
from launcher.settings.table import Settings
from launcher.supervise import post_start


def _become_able_to_run_programs() -> None:
    """Let root find ssh-keygen and chpasswd where only root can put them.

    The container's PATH starts with the user's environment, which the user writes to.  A program
    that ends before it has read its input is an error to handle, not our end.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if os.geteuid() == 0:
        environ.replace({"PATH": become.launcher_path()})


def for_a_command(plan: Plan, host: Host) -> bytes:
    """Make the account and its home real, as far as that goes: the command runs in any case.

    The plan is written for `launcher exec`, in a hook or beside the command.  What could not be
    done is said on standard error.
    """
    _become_able_to_run_programs()
    with contextlib.suppress(LauncherError, OSError):
        home.write_names(plan.identity, plan.paths.run)
    with contextlib.suppress(LauncherError, OSError):
        files.write((*command_files(plan), plan_file(plan)))
    say = _speaker(2)
    if takes_workspace(plan.identity.account, host, plan.paths.workspace):
        with contextlib.suppress(OSError):
            home.give_workspace(plan.identity, plan.paths.workspace)
    ownership.give_extra(plan.identity, say)
    if system_calls.are_threads_refused():
        say(forbidden.in_words(host))
    with contextlib.suppress(OSError):
        home.make_home(plan.identity, say=say)
    write_ca_bundle(plan.ca_sources, plan.paths.run)
    return b""


def _speaker(fd: int) -> ownership.Say:
    """Return what says a line at once: giving a large folder away takes minutes."""
    out = Pump(fd)

    def say(line: str) -> None:
        out.say(f"launcher: {line}")
        out.flush(timeout=0.3)

    return say


def open_state(settings: Settings, host: Host, who: Identity, mend: bool = True) -> State:
    """Make the account real, and return what outlives a restart.

    Args:
        mend: False while a box runs by it.
    """
    _become_able_to_run_programs()
    found = home.Found(None, None)
    if host.image:
        home.write_names(who, settings.run_dir)
        names = {var.name: var.value for var in name_variables(who, host, settings)}
        if os.geteuid() != 0:  # without a name ssh-keygen refuses to do anything
            environ.replace({**environ.own(), **names})
        if takes_workspace(who.account, host, settings.workspace):
            with contextlib.suppress(OSError):
                home.give_workspace(who, settings.workspace)
        say = _speaker(1)
        if mend:
            ownership.give_extra(who, say)
        found = home.make_home(
            who if mend else who._replace(chown_home=""), settings.workspace, say
        )
    own_key = not host.image
    state = box_state.open_state(settings.state_dir, settings.key_lines, own_key, mend)
    state = state._replace(**found._asdict())
    if not settings.https:
        return state
    from launcher.box import certificate  # in this child, and where https is asked for

    made, remarks = certificate.provide(settings, mend)
    return state._replace(certificate=made, remarks=(*state.remarks, *remarks))


def write_files(plan: Plan, machine: Machine, settings: Settings) -> bytes:
    """Write whatever the services read, and set the password.

    Raises BadSetting where nothing of that could run.
    """
    if plan.jupyter and system_calls.are_threads_refused():
        raise BadSetting(forbidden.in_words(machine.host))
    _become_able_to_run_programs()
    files.check_temporary_directory()
    if plan.ssh:
        box_state.prepare_sshd(plan.identity.account.uid)
        fault = box_state.set_password(plan.ssh.user, plan.ssh.password)
        if fault:
            ssh = plan.ssh._replace(password=None, password_why=f"cannot set one: {fault}")
            plan = plan._replace(ssh=ssh)
    after = () if settings.safe_mode else post_start.files(plan.paths.run, settings.environ)
    watch = watch_file(plan_watch(plan, machine))
    files.write((*render(plan), machine_file(plan, machine), watch, *after))
    write_ca_bundle(plan.ca_sources, plan.paths.run)
    if plan.ssh:
        sshd.check_drop_ins(plan.ssh, plan.paths.run, dict(sshd_service(plan, plan.ssh).env))
    files.check_room(plan.paths.run)
    return b""
