"""Decide how people get in: ports, token, keys or password, and the address to print.  Pure."""

from __future__ import annotations

from collections.abc import Mapping

from launcher.config import Settings
from launcher.errors import BadSetting
from launcher.machine import Machine
from launcher.model import Address, Identity, Jupyter, KeyLine, Secret, Ssh, State

# It asks NVML in Jupyter's own process, which would hang or crash with the driver library, or log
# a traceback for what it says; without the library it keeps quiet.
_ASKS_NVML = ("jupyterlab_nvdashboard",)

_PASSWORD_LEAKS = ("kubernetes", "runpod", "vast")  # these ship the log elsewhere


def check_ports(machine: Machine, settings: Settings) -> None:
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
    failure = machine.report.failure
    return Jupyter(
        port=settings.jupyter_port,
        listen=settings.listen,
        token=settings.jupyter_token or state.token,
        address=_address(machine, settings, settings.jupyter_port, settings.jupyter_port_host),
        left_out=_ASKS_NVML if failure and failure.kind != "library" else (),
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
        # A checkout may lie below /tmp, or a folder that a group writes to: no login there else.
        strict_modes=host.image,
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
    if not machine.host.image:
        return Address(settings.listen or "127.0.0.1", port, port, certain=True)
    # `-p 2222:22` is the documented command: nobody publishes 22 as 22.
    assumed = 2222 if port == 22 else port
    return Address(_public_ip(env) or "127.0.0.1", assumed, port, certain=False)


def _public_ip(env: Mapping[str, str]) -> str | None:
    names = sorted(name for name in env if name.endswith("_PUBLIC_IP") or name == "PUBLIC_IPADDR")
    return next((env[name] for name in names if env[name]), None)
