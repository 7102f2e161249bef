"""Decide everything: Machine + Settings + State → Plan.  Pure.

The user wins: a variable that the user set is kept, and the plan says so.  A degraded
machine still starts; only a contradiction with what the user asked for is an error.
"""

from __future__ import annotations

from launcher.access import check_ports, plan_jupyter, plan_ssh
from launcher.config import Settings, inherited
from launcher.errors import BadSetting, NoUsableGpu
from launcher.model import (
    EnvVar,
    Gpu,
    Identity,
    Machine,
    Paths,
    Plan,
    State,
)
from launcher.notes import diagnose, plan_notes


def make_plan(
    machine: Machine, settings: Settings, state: State | None, guest: str, started: float
) -> Plan:
    """Return the whole plan; without a state, one that starts no service.

    Raises BadSetting where the settings ask for what this machine cannot give, and
    NoUsableGpu where LAUNCHER_REQUIRE_GPU is not met.
    """
    identity = plan_identity(machine)
    devices = select_gpus(machine, settings)
    _check_required(machine, settings, len(_visible_ids(devices)))
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
            *plan_devices(machine, settings, devices),
            *plan_account(identity),
            *plan_path(settings),
        ),
        inherited=inherited(settings.environ),
        jupyter=jupyter,
        ssh=ssh,
        ssh_off=ssh_off,
        notes=plan_notes(machine, settings, ssh),
        devices=len(_visible_ids(devices)),
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


# --- GPUs ----------------------------------------------------------------------------------


def select_gpus(machine: Machine, settings: Settings) -> tuple[Gpu, ...]:
    """Return the GPUs that the user asked for, in the order asked; by default all.

    Raises BadSetting for an index or UUID that is not here, or is named twice.
    """
    gpus = machine.report.gpus
    if not settings.gpus:
        return gpus
    chosen: list[Gpu] = []
    for wanted in settings.gpus:
        matches = [
            gpu
            for gpu in gpus
            if (wanted.isdecimal() and gpu.index == int(wanted))
            or (not wanted.isdecimal() and gpu.uuid.lower().startswith(wanted.lower()))
        ]
        if len(matches) != 1 or matches[0] in chosen:
            here = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus) or "none"
            fault = "is named twice" if len(matches) == 1 else f"matches {len(matches)} GPUs"
            raise BadSetting(f"LAUNCHER_GPUS: {wanted} {fault}; usable GPUs here: {here}")
        chosen.append(matches[0])
    return tuple(chosen)


def plan_devices(machine: Machine, settings: Settings, gpus: tuple[Gpu, ...]) -> tuple[EnvVar, ...]:
    """Return CUDA_DEVICE_ORDER and CUDA_VISIBLE_DEVICES.

    Without GPUs both are left alone: an empty CUDA_VISIBLE_DEVICES hides every device from
    whatever is attached later.
    """
    if not _visible_ids(gpus):
        return ()
    return (_device_order(settings), _visible_devices(machine, settings, gpus))


def _device_order(settings: Settings) -> EnvVar:
    name = "CUDA_DEVICE_ORDER"
    if name in settings.environ:
        return EnvVar(name, settings.environ[name], "yours, kept")
    return EnvVar(name, "PCI_BUS_ID", "CUDA numbers GPUs as nvidia-smi does")


def _visible_devices(machine: Machine, settings: Settings, gpus: tuple[Gpu, ...]) -> EnvVar:
    name = "CUDA_VISIBLE_DEVICES"
    if name in settings.environ:
        return EnvVar(name, settings.environ[name], "yours, kept")
    wanted = "as LAUNCHER_GPUS asks" if settings.gpus else "every usable GPU"
    if settings.gpu_ids == "uuid":
        why = "UUIDs, as LAUNCHER_GPU_IDS asks"
    elif any(gpu.mig_enabled for gpu in gpus):
        why = "UUIDs, since MIG instances have no index"
    elif machine.report.lost and settings.gpu_ids == "auto":
        why = "UUIDs, since a lost GPU shifts the indices"
    else:
        return EnvVar(name, ",".join(str(gpu.index) for gpu in gpus), wanted)
    return EnvVar(name, ",".join(_visible_ids(gpus)), f"{wanted}; {why}")


def _visible_ids(gpus: tuple[Gpu, ...]) -> tuple[str, ...]:
    """Return the UUIDs that CUDA can open: of MIG instances where MIG is on."""
    return tuple(
        uuid for gpu in gpus for uuid in (gpu.mig_uuids if gpu.mig_enabled else (gpu.uuid,))
    )


def _check_required(machine: Machine, settings: Settings, usable: int) -> None:
    if usable >= settings.require_gpu:
        return
    finding = diagnose(machine, settings)
    reason = f"{finding.what}\n  fix: {finding.fix}" if finding else "the others are not here"
    raise NoUsableGpu(
        f"LAUNCHER_REQUIRE_GPU={settings.require_gpu}, but {usable} GPUs are usable: {reason}"
    )
