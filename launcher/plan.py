"""Decide everything: Machine + Settings + State → Plan.  Pure.

The user wins: a variable that the user set is kept, and the plan says so.  A degraded
machine still starts; only a contradiction with what the user asked for is an error.
"""

from __future__ import annotations

from launcher.access import check_ports, plan_jupyter, plan_ssh
from launcher.config import inherited
from launcher.devices import plan_devices
from launcher.errors import NoUsableGpu
from launcher.machine import Machine
from launcher.model import EnvVar, Finding, Identity, Paths, Plan, State
from launcher.notes import judge, plan_notes
from launcher.settings import Settings
from launcher.threads import plan_threads


def make_plan(
    machine: Machine, settings: Settings, state: State | None, guest: str, started: float
) -> Plan:
    """Return the whole plan; without a state, one that starts no service.

    Raises BadSetting where the settings ask for what this machine cannot give, and
    NoUsableGpu where LAUNCHER_REQUIRE_GPU is not met.
    """
    identity = plan_identity(machine)
    devices = plan_devices(machine.report, settings)
    _check_required(machine, settings, devices.count)
    jupyter, ssh, ssh_off = None, None, None
    if state:
        check_ports(machine, settings)
        jupyter = plan_jupyter(machine, settings, state)
        ssh, ssh_off = plan_ssh(machine, settings, state, identity)
    return Plan(
        paths=Paths(
            run=settings.run_dir,
            state=settings.state_dir,
            workspace=identity.account.home
            if machine.host.workspace_missing
            else settings.workspace,
            python=settings.python,
            guest=guest,
        ),
        identity=identity,
        environment=(
            *devices.environment,
            *plan_threads(machine.limits, devices.count, settings.environ),
            *plan_account(identity),
            *plan_path(settings),
        ),
        inherited=inherited(settings.environ),
        jupyter=jupyter,
        ssh=ssh,
        ssh_off=ssh_off,
        notes=plan_notes(machine, settings, ssh),
        devices=devices.count,
        device_remarks=devices.remarks,
        ready_timeout=settings.ready_timeout,
        color=settings.color,
        started=started,
    )


# --- who ---------------------------------------------------------------------------------


def plan_identity(machine: Machine) -> Identity:
    """Return who notebooks, terminals and commands run as."""
    host = machine.host
    if host.me.uid != 0:
        return Identity(host.me, "the container was started with this user")
    if host.account is None:
        return Identity(host.me, "there is no workspace user (NB_USER) here")
    return Identity(host.account, "the workspace user")


def plan_account(identity: Identity) -> tuple[EnvVar, ...]:
    account = identity.account
    return (
        EnvVar("HOME", account.home, f"home of {account.name}"),
        EnvVar("USER", account.name, identity.why),
        EnvVar("LOGNAME", account.name, identity.why),
        EnvVar("SHELL", account.shell, f"login shell of {account.name}"),
    )


def plan_path(settings: Settings) -> tuple[EnvVar, ...]:
    """Put the user environment's programs within reach, where the image has not."""
    directory = settings.python.rpartition("/")[0]
    path = settings.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    if directory in path.split(":"):
        return ()
    return (EnvVar("PATH", f"{directory}:{path}", "the user environment's programs first"),)


def _check_required(machine: Machine, settings: Settings, usable: int) -> None:
    if usable < settings.require_gpu:
        raise too_few_gpus(settings.require_gpu, usable, judge(machine, settings).failure)


def too_few_gpus(required: int, usable: int, cause: Finding | None) -> NoUsableGpu:
    """Return the error that LAUNCHER_REQUIRE_GPU asks for, with the diagnosis."""
    few = f"LAUNCHER_REQUIRE_GPU={required}, but {usable} GPUs are usable"
    if cause is None:
        return NoUsableGpu(f"{few}: the others are not here")
    return NoUsableGpu(f"{few}: {cause.what}\n  fix: {cause.fix}\n  id:  {cause.id}")
