"""Decide everything: Machine + Settings + State → Plan.  Pure.

The user wins: a variable that the user set is kept, and the plan says so.  A degraded
machine still starts; only a contradiction with what the user asked for is an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from launcher.config import Settings, inherited
from launcher.errors import BadSetting, NoUsableGpu
from launcher.model import (
    Address,
    EnvVar,
    Gpu,
    Identity,
    Jupyter,
    KeyLine,
    Machine,
    Paths,
    Plan,
    Secret,
    Ssh,
    State,
)
from launcher.notes import diagnose, plan_notes

_PASSWORD_LEAKS = ("kubernetes", "runpod", "vast")  # these ship the log elsewhere


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
        _check_ports(machine, settings)
        jupyter = plan_jupyter(machine, settings, state)
        ssh, ssh_off = plan_ssh(machine, settings, state, identity)
    return Plan(
        paths=Paths(
            run=settings.run_dir,
            state=settings.state_dir,
            workspace=settings.workspace,
            python=settings.python,
            guest=guest,
        ),
        identity=identity,
        environment=(
            *plan_devices(machine, settings, devices),
            *plan_account(identity),
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
        return Identity(host.me, "there is no workspace user here")
    return Identity(host.account, "the workspace user")


def plan_account(identity: Identity) -> tuple[EnvVar, ...]:
    account = identity.account
    return (
        EnvVar("HOME", account.home, f"home of {account.name}"),
        EnvVar("USER", account.name, identity.why),
        EnvVar("LOGNAME", account.name, identity.why),
        EnvVar("SHELL", account.shell, f"login shell of {account.name}"),
    )


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
    if not gpus:
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


# --- services ------------------------------------------------------------------------------


def _check_ports(machine: Machine, settings: Settings) -> None:
    ports = (
        (settings.given.get("jupyter_port", "JUPYTER_PORT"), settings.jupyter_port),
        (settings.given.get("ssh_port", "SSH_PORT"), settings.ssh_port),
    )
    if settings.jupyter_port == settings.ssh_port:
        raise BadSetting(
            f"JUPYTER_PORT and SSH_PORT are both {settings.ssh_port}: choose two ports"
        )
    for name, port in ports:
        if port in machine.host.busy_ports:
            raise BadSetting(
                f"{name}={port}: this port is already in use here "
                f"(with --network host: by the host); set {name} to a free one"
            )


def plan_jupyter(machine: Machine, settings: Settings, state: State) -> Jupyter:
    return Jupyter(
        port=settings.jupyter_port,
        listen=settings.listen,
        token=settings.jupyter_token or state.token,
        address=_address(machine, settings, settings.jupyter_port, settings.jupyter_port_host),
    )


def plan_ssh(
    machine: Machine, settings: Settings, state: State, identity: Identity
) -> tuple[Ssh | None, str | None]:
    """Return the SSH server to start, or None and why there is none."""
    host = machine.host
    if host.sshd is None:
        return None, "OpenSSH's server is not installed (apt-get install openssh-server)"
    if state.host_key is None:
        return None, "no host key could be made (is ssh-keygen installed?)"
    if host.me.uid != 0 and settings.ssh_port < 1024:
        return None, f"port {settings.ssh_port} needs root: set SSH_PORT to 1024 or higher"
    password, why = _password(machine, settings, state, identity)
    keys = state.keys
    login_key = None
    if state.login_key and not any(key.fault is None for key in keys):
        keys = (*keys, KeyLine("the key made for you", 1, state.login_key))
        login_key = f"{settings.state_dir}/login_key"
    ssh = Ssh(
        port=settings.ssh_port,
        listen=settings.listen,
        sshd=host.sshd,
        address=_address(machine, settings, settings.ssh_port, settings.ssh_port_host),
        user=identity.account.name,
        host_key=state.host_key,
        keys=keys,
        password=password,
        password_why=why,
        login_key_file=login_key,
    )
    return ssh, None


def _password(
    machine: Machine, settings: Settings, state: State, identity: Identity
) -> tuple[Secret | None, str]:
    """Return the workspace user's password, or None and why there is none."""
    refusals = (
        (settings.ssh_password == "off", "LAUNCHER_SSH_PASSWORD=off"),
        (settings.key_source_set, "keys are set, so keys only"),
        (not machine.host.image, "this machine's own accounts are left alone"),
        (machine.host.platform in _PASSWORD_LEAKS, "this platform ships logs elsewhere"),
        (machine.host.me.uid != 0, "only root can set one"),
        (identity.is_root, "root logs in by key only"),
    )
    for refused, why in refusals:
        if refused:
            return None, why
    return state.password, "no key source is set"


def _address(machine: Machine, settings: Settings, port: int, told: int | None) -> Address:
    """Return where `port` is reached from outside, as far as the environment tells."""
    env = settings.environ
    for prefix, host_name in (("RUNPOD", "RUNPOD_PUBLIC_IP"), ("VAST", "PUBLIC_IPADDR")):
        outside = env.get(f"{prefix}_TCP_PORT_{port}", "")
        if outside.isdecimal():
            host = env.get(host_name) or _public_ip(env) or "127.0.0.1"
            return Address(host, int(outside), port, certain=True)
    if told:
        return Address(_public_ip(env) or "127.0.0.1", told, port, certain=True)
    # `-p 2222:22` is the documented command: nobody publishes 22 as 22.
    assumed = 2222 if port == 22 and machine.host.image else port
    return Address(_public_ip(env) or "127.0.0.1", assumed, port, certain=False)


def _public_ip(env: Mapping[str, str]) -> str | None:
    names = sorted(name for name in env if name.endswith("_PUBLIC_IP") or name == "PUBLIC_IPADDR")
    return next((env[name] for name in names if env[name]), None)
