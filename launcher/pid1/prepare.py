"""What must be there before anything starts: the files, and for a command the account.

For children of PID 1, since each may be slow, and has an environment of its own to change.
"""

from __future__ import annotations

import contextlib

from launcher.box import files, home, ownership, packages, sshd
from launcher.box import state as box_state
from launcher.box.ca_bundle import write_ca_bundle
from launcher.checks.facts import forbidden
from launcher.detect import system_calls
from launcher.model.errors import BadSetting, LauncherError
from launcher.model.host import Host
from launcher.model.machine import Machine
from launcher.model.plan import Plan
from launcher.pid1.state import become_able_to_run_programs, speaker
from launcher.plan.identity import takes_workspace
from launcher.plan.watch import plan_watch
from launcher.render.files import command_files, machine_file, plan_file, render, watch_file
from launcher.render.sshd import sshd_service
from launcher.settings.table import Settings
from launcher.supervise import post_start


def for_a_command(plan: Plan, host: Host) -> bytes:
    """Make the account and its home real, as far as that goes: the command runs in any case.

    The plan is written for `launcher exec`, in a hook or beside the command.  What could not be
    done is said on standard error.
    """
    become_able_to_run_programs()
    with contextlib.suppress(LauncherError, OSError):
        home.write_names(plan.identity, plan.paths.run)
    with contextlib.suppress(LauncherError, OSError):
        files.write((*command_files(plan), plan_file(plan)))
    say = speaker(2)
    if takes_workspace(plan.identity.account, host, plan.paths.workspace):
        with contextlib.suppress(OSError):
            home.give_workspace(plan.identity, plan.paths.workspace)
    ownership.give_extra(plan.identity, say)
    if system_calls.are_threads_refused():
        say(forbidden.in_words(host))
    with contextlib.suppress(OSError):
        home.make_home(plan.identity, say=say)
    write_ca_bundle(plan.ca_sources, plan.paths.run)
    if plan.packages.folder:
        made = packages.provide(plan.packages.folder, plan.paths.jupyter, plan.identity.account)
        for line in (*([made.fault] if made.fault else []), *made.remarks):
            say(f"LAUNCHER_PACKAGES: {line}")
    return b""


def write_files(plan: Plan, machine: Machine, settings: Settings) -> bytes:
    """Write whatever the services read, and set the password.

    Raises BadSetting where nothing of that could run.
    """
    if plan.jupyter and system_calls.are_threads_refused():
        raise BadSetting(forbidden.in_words(machine.host))
    become_able_to_run_programs()
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
