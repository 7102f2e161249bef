"""Decide everything: Machine + Settings + State → Plan.  Pure.

The user wins: a variable that the user set is kept, and the plan says so.  A degraded
machine still starts; only a contradiction with what the user asked for is an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.checks.facts.how_to_run import place_of
from launcher.checks.hardware import NONE
from launcher.model import run_files
from launcher.model.errors import NoUsableGpu
from launcher.model.host import Host
from launcher.model.machine import GpuReport, Machine
from launcher.model.plan import (
    EnvVar,
    Finding,
    Identity,
    Jupyter,
    Packages,
    Paths,
    Plan,
    State,
    Supervision,
)
from launcher.model.services import program_of
from launcher.plan.access import check_ports, plan_jupyter, plan_ssh
from launcher.plan.caches import plan_caches
from launcher.plan.devices import plan_devices
from launcher.plan.environment import changed_by_hooks, inherit, too_large_notes
from launcher.plan.findings import plan_notes
from launcher.plan.identity import may_write, name_variables, takes_workspace
from launcher.plan.noexec import plan_compiled
from launcher.plan.outset import Outset
from launcher.plan.packages import package_notes, package_variables, plan_packages
from launcher.plan.threads import plan_threads
from launcher.plan.trust import ca_sources, plan_trust
from launcher.settings.table import Settings

# Of a command, which has no state: by whether the image is ours.
_NO_PACKAGES = {True: None, False: "outside our image a command alone makes none"}
_LEAST_PATIENCE = 10.0  # seconds
_TIMES = 3


def make_plan(outset: Outset, state: State | None) -> Plan:
    """Return the whole plan; without a state, one that starts no service.

    Raises BadSetting where the settings ask for what this machine cannot give, and
    NoUsableGpu where LAUNCHER_REQUIRE_GPU is not met.
    """
    machine, settings, identity = outset.machine, outset.settings, outset.identity
    writable = _may_write(outset, state)
    devices = plan_devices(machine.report, settings, machine.host.sharing)
    if devices.count < settings.require_gpu:
        raise too_few_gpus(settings.require_gpu, devices.count, outset.verdict.failure)
    jupyter, jupyter_off, ssh, ssh_off = None, None, None, None
    if state:
        jupyter, jupyter_off = plan_jupyter(machine, settings, state)
        check_ports(machine, settings, jupyter, identity)
        ssh, ssh_off = plan_ssh(machine, settings, state, identity)
    fault = state.packages_fault if state else _NO_PACKAGES[machine.host.image]
    packages = plan_packages(machine.host, settings, writable, fault)
    authorities = ca_sources(machine.host, settings)
    environment = (
        *devices.environment,
        *plan_threads(machine.limits, devices.count, settings.environ),
        *plan_account(identity),
        *plan_workspace(machine, settings),
        *(plan_runtime(settings) if jupyter else ()),
        *(plan_tensorboard(jupyter, settings.environ) if jupyter else ()),
        *plan_pip(machine.host, settings.environ),
        *name_variables(identity, machine.host, settings),
        *package_variables(packages, settings),
        *plan_trust(authorities, settings.run_dir, settings.environ),
        *plan_caches(
            machine.host, identity.account, settings.workspace, settings.environ, writable
        ),
        *plan_compiled(
            machine.host, identity.account, settings.workspace, settings.environ, writable
        ),
    )
    inherited = inherit(settings, environment, machine.limits.stack)
    left_out = (*inherited.left_out, *inherited.too_large)
    got = {name for name, _ in inherited.variables} | {var.name for var in environment}
    hooks = changed_by_hooks(outset.container, settings.environ, got)
    notes = (
        *plan_notes(outset, ssh, writable, state),
        *package_notes(settings, packages, fault),
        *too_large_notes(inherited.too_large, machine.limits.stack, machine.host),
    )
    failure = outset.verdict.failure
    return Plan(
        paths=plan_paths(machine, settings, identity, outset.guest, packages),
        identity=identity,
        environment=environment,
        inherited=inherited.variables,
        left_out=(*left_out, *(name for name in hooks.left_out if name not in left_out)),
        jupyter=jupyter,
        jupyter_off=jupyter_off,
        ssh=ssh,
        ssh_off=ssh_off,
        notes=notes,
        broken=next((note for note in notes if failure and note.id == failure.id != NONE), None),
        place=place_of(machine.host),
        devices=devices.count,
        device_remarks=devices.remarks,
        ready_timeout=settings.ready_timeout,
        supervision=plan_supervision(settings, machine.host),
        gpu_watch=settings.gpu_watch,
        check_pytorch=settings.check_pytorch,
        gpu_patience=plan_patience(settings, machine.report),
        cpu_only=settings.cpu_only,
        color=settings.color,
        started=outset.started,
        before_hooks=hooks.before,
        idle_shutdown=settings.idle_shutdown,
        packages=packages,
        ca_sources=authorities,
    )


def _may_write(outset: Outset, state: State | None) -> bool:
    """Return whether the user can write the workspace: as he found it himself, or as far as known.

    Root is told less than the truth by a network disk, and by a mount without its capabilities.
    """
    if state and state.workspace_writable is not None:
        return state.workspace_writable
    account, host, settings = outset.identity.account, outset.machine.host, outset.settings
    given = settings.workspace in outset.identity.chown_extra
    taken = given or takes_workspace(account, host, settings.workspace)
    return taken or may_write(account, host)


def plan_paths(
    machine: Machine, settings: Settings, identity: Identity, guest: str, packages: Packages
) -> Paths:
    home = identity.account.home
    return Paths(
        run=settings.run_dir,
        state=settings.state_dir,
        workspace=home if machine.host.workspace_missing else settings.workspace,
        python=f"{packages.folder}/bin/python" if packages.folder else settings.python,
        guest=guest,
        # A package of the user's own must not keep Jupyter from starting.
        jupyter=settings.python if packages.folder else "",
    )


def plan_patience(settings: Settings, report: GpuReport) -> float:
    """Return how many seconds the driver may take for a look: what is slow is not lost.

    Where nobody keeps the GPUs ready, each look can find them as the start did; and others may use
    the machine meanwhile, so it may take some times as long.
    """
    return max(_LEAST_PATIENCE, settings.detect_timeout, _TIMES * (report.seconds or 0.0))


def plan_supervision(settings: Settings, host: Host) -> Supervision:
    return Supervision(
        programs=settings.services,
        required=tuple(program_of(name) for name in settings.required_services),
        restart_delay=settings.restart_delay,
        stop_timeout=settings.stop_timeout,
        safe_mode=settings.safe_mode,
        place=place_of(host),
    )


# --- who ---------------------------------------------------------------------------------


def plan_account(identity: Identity) -> tuple[EnvVar, ...]:
    account = identity.account
    return (
        EnvVar("HOME", account.home, f"home of {account.name}"),
        EnvVar("USER", account.name, identity.why),
        EnvVar("LOGNAME", account.name, identity.why),
        EnvVar("SHELL", account.shell, f"login shell of {account.name}"),
    )


def plan_workspace(machine: Machine, settings: Settings) -> tuple[EnvVar, ...]:
    """Tell programs where work is, as Vast.ai's scripts and others ask."""
    if machine.host.workspace_missing or not machine.host.image:
        return ()
    return (EnvVar("WORKSPACE", settings.workspace, "where notebooks open and commands start"),)


def plan_runtime(settings: Settings) -> tuple[EnvVar, ...]:
    """Let `jupyter server list` find our Jupyter from every door."""
    if settings.environ.get("JUPYTER_RUNTIME_DIR"):
        return ()
    place = f"{settings.run_dir}/{run_files.JUPYTER}"
    return (EnvVar("JUPYTER_RUNTIME_DIR", place, "where our Jupyter says that it runs"),)


def plan_tensorboard(jupyter: Jupyter, environ: Mapping[str, str]) -> tuple[EnvVar, ...]:
    """Let `%tensorboard` in a notebook find its pages: the browser reaches no port but ours."""
    name = "TENSORBOARD_PROXY_URL"
    if not jupyter.tensorboard or environ.get(name):
        return ()
    # A JupyterHub's prefix is in base_url, too.
    address = f"{jupyter.base_url}proxy/%PORT%/"
    return (EnvVar(name, address, "%tensorboard in a notebook shows it below Jupyter's address"),)


def plan_pip(host: Host, environ: Mapping[str, str]) -> tuple[EnvVar, ...]:
    """Let pip install into the user environment where a variable asks for ~/.local.

    A virtual environment does not see that folder: pip refuses ("Can not perform a '--user'
    install").
    """
    if not host.image or environ.get("PIP_USER", "0").strip().lower() in ("", "0", "false", "no"):
        return ()
    return (EnvVar("PIP_USER", "0", "/opt/venv is the user's already, and sees no ~/.local"),)


def too_few_gpus(required: int, usable: int, cause: Finding | None) -> NoUsableGpu:
    """Return the error that LAUNCHER_REQUIRE_GPU asks for, with the diagnosis."""
    few = f"LAUNCHER_REQUIRE_GPU={required}, but {usable} GPUs are usable"
    if cause is None:
        return NoUsableGpu(f"{few}: the others are not here")
    return NoUsableGpu(f"{few}: {cause.what}\n  fix: {cause.fix}\n  id:  {cause.id}")
