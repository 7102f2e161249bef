"""Decide how people get in: ports, token, keys or password, and the address to print.  Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from launcher.model import state_files
from launcher.model.errors import BadSetting
from launcher.model.host import FIRST_OF_PEOPLE, Host
from launcher.model.machine import Machine
from launcher.model.plan import Address, Identity, Jupyter, KeyLine, Secret, Ssh, State
from launcher.plan.findings import LOGIN
from launcher.plan.hub import HubPlace, hub_place
from launcher.plan.identity import NO_LOGIN
from launcher.settings import address, folders
from launcher.settings.meant import is_unguarded, keeps_alive
from launcher.settings.table import Settings

# Who installs it has NVML asked in Jupyter's own process, which would hang or crash with the driver
# library, or log a traceback for what it says; without the library it keeps quiet.
_ASKS_NVML = ("jupyterlab_nvdashboard",)

_PASSWORD_LEAKS = ("kubernetes", "runpod", "vast")  # these ship the log elsewhere


def check_ports(
    machine: Machine, settings: Settings, jupyter: Jupyter | None, identity: Identity
) -> None:
    """Raise BadSetting where a port is wanted twice, is somebody else's here, or is root's."""
    ssh = is_chosen(settings, "ssh")
    ports = {settings.given.get("ssh_port", "SSH_PORT"): settings.ssh_port} if ssh else {}
    if jupyter:
        name = settings.given.get("jupyter_port", "JUPYTER_PORT")
        name = "JUPYTERHUB_SERVICE_URL" if jupyter.hub else name
        if ssh and jupyter.port == settings.ssh_port:
            raise BadSetting(f"{name} and SSH_PORT are both {jupyter.port}: choose two ports")
        ports[name] = jupyter.port
        if fault := _port_fault(machine.host, jupyter.port, as_root=identity.is_root):
            raise BadSetting(f"{name}={jupyter.port}: this port {fault} here: set 1024 or higher")
    for name, port in ports.items():
        if port in machine.host.busy_ports:
            raise BadSetting(
                f"{name}={port}: this port is already in use here "
                f"(on a network that is the host's: by the host); set {name} to a free one"
            )


# What the launcher has to know as well: settings.jupyter_options has taken what could be taken, so
# these have no value, or have one that nothing of ours can use.
_SET_ELSEWHERE = {
    "port": "JUPYTER_PORT",
    "sock": "JUPYTER_PORT",
    "base_url": "LAUNCHER_JUPYTER_BASE_URL",
    "token": "JUPYTER_TOKEN",
    "certfile": "LAUNCHER_TLS_CERT",
    "keyfile": "LAUNCHER_TLS_KEY",
}


def check_arguments(settings: Settings) -> None:
    """Raise BadSetting for an option that is a setting here, naming that."""
    for source, words in settings.jupyter_options:
        for word in words:
            option = word.partition("=")[0]
            name = option.lstrip("-").rpartition(".")[2].replace("-", "_")
            if option.startswith("-") and name in _SET_ELSEWHERE:
                raise BadSetting(
                    f"{source} {option}: this option has another place here: "
                    f"set {_SET_ELSEWHERE[name]} instead"
                )


def _port_fault(host: Host, port: int, as_root: bool) -> str | None:
    """Return what it takes to listen on a port, where that is lacking."""
    if port >= host.first_open_port:
        return None
    if not as_root:
        return "needs root"
    return "needs CAP_NET_BIND_SERVICE" if host.lacks("NET_BIND_SERVICE") else None


def is_chosen(settings: Settings, service: str) -> bool:
    return settings.services is None or service in settings.services


def plan_jupyter(
    machine: Machine, settings: Settings, state: State
) -> tuple[Jupyter | None, str | None]:
    """Return the Jupyter server to start, or None and why there is none."""
    if settings.jupyter_disabled:
        return None, f"{settings.given['jupyter_disabled']} is set"
    if not is_chosen(settings, "jupyter"):
        return None, "LAUNCHER_SERVICES has no jupyter"
    check_arguments(settings)
    _check_metrics_token(settings)
    place = hub_place(settings.environ)
    port = place.port if place else settings.jupyter_port
    failure = machine.report.failure
    broken = machine.report.lost or (failure and failure.kind != "library")
    no_token = settings.jupyter_auth == "proxy" and not place
    if no_token:
        _check_proxy(machine.host, settings)
    at = _address(machine, settings, port, settings.jupyter_port_host, http=True)
    certificate = None if place else state.certificate
    jupyter = Jupyter(
        port=port,
        listen=place.listen if place else settings.listen,
        token=Secret("") if no_token else settings.jupyter_token or state.token,
        address=at,
        base_url=place.base_url if place else settings.jupyter_base_url,
        left_out=_ASKS_NVML if broken else (),
        arguments=settings.jupyter_arguments,
        idle=settings.jupyter_idle,
        certificate=certificate,
        hub=place.hub if place else None,
        origins=_origins(settings, at, place, encrypted=certificate is not None),
        page=settings.page,
        metrics_token=settings.metrics_token,
        ports=settings.ports,
        tensorboard=machine.host.tensorboard,
    )
    return jupyter, None


def _check_metrics_token(settings: Settings) -> None:
    """Raise BadSetting where what is to open the metrics alone would open everything."""
    if settings.metrics_token and settings.metrics_token == settings.jupyter_token:
        one, other = settings.given["metrics_token"], settings.given["jupyter_token"]
        raise BadSetting(
            f"{one} and {other} are the same, so who may read metrics could run programs here: "
            f"give {one} another value"
        )


def _check_proxy(host: Host, settings: Settings) -> None:
    """Raise BadSetting where Jupyter would let in whoever reaches its port."""
    if settings.jupyter_token:
        given = settings.given["jupyter_token"]
        raise BadSetting(f"LAUNCHER_JUPYTER_AUTH=proxy means no token, and {given} is one")
    if host.platform != "kubernetes":
        raise BadSetting(
            "LAUNCHER_JUPYTER_AUTH=proxy lets in whoever reaches the port: it is for Kubernetes, "
            "with a proxy before it that asks who somebody is; elsewhere JUPYTER_TOKEN is the way"
        )


def _origins(
    settings: Settings, at: Address, place: HubPlace | None, *, encrypted: bool
) -> tuple[str, ...]:
    """Return whose pages may use Jupyter: what the banner prints as public, and what is set.

    A browser sends the origin that it sees, and a proxy may hand on another Host than that; then
    Jupyter refuses every kernel and terminal (jupyter_server, WebSocketMixin.check_origin).
    """
    public: tuple[str, ...] = ()
    if place:
        from urllib.parse import urlsplit  # for a hub's alone: it takes its time to import

        url = urlsplit(place.hub.url)
        public = (f"{url.scheme}://{url.netloc}",) if url.scheme and url.netloc else ()
    elif at.certain and at.host != "127.0.0.1":
        scheme = "https" if encrypted or at.proxied else "http"
        host = f"[{at.host}]" if ":" in at.host else at.host
        usual = {"http": 80, "https": 443}[scheme]
        public = (f"{scheme}://{host}" + ("" if at.port == usual else f":{at.port}"),)
    return tuple(dict.fromkeys((*public, *settings.allow_origin)))


def plan_ssh(
    machine: Machine, settings: Settings, state: State, identity: Identity
) -> tuple[Ssh | None, str | None]:
    """Return the SSH server to start, or None and why there is none."""
    host = machine.host
    if not is_chosen(settings, "ssh"):
        return None, "LAUNCHER_SERVICES has no ssh"
    if host.sshd is None:
        return None, "OpenSSH's server is not installed (apt-get install openssh-server)"
    host_key = state.host_key or state.rsa_host_key
    if host_key is None:
        return None, "no host key could be made (is ssh-keygen installed?)"
    if lacking := host.lacks(*LOGIN) if host.me.uid == 0 else ():
        return None, " ".join(("nobody could log in without", *(f"CAP_{one}" for one in lacking)))
    if fault := _port_fault(host, settings.ssh_port, as_root=host.me.uid == 0):
        return None, f"port {settings.ssh_port} {fault}: set SSH_PORT to 1024 or higher"
    if identity.names == "unknown":
        return None, f"uid {identity.account.uid} has no name (apt-get install libnss-wrapper)"
    password, why = _password(machine, settings, state, identity)
    keys = state.keys
    login_key = None
    if state.login_key and not any(key.fault is None for key in keys):
        keys = (*keys, KeyLine("the key made for you", 1, state.login_key))
        login_key = f"{settings.state_dir}/{state_files.LOGIN_KEY}"
    ssh = Ssh(
        port=settings.ssh_port,
        listen=settings.listen,
        sshd=host.sshd,
        address=_address(machine, settings, settings.ssh_port, settings.ssh_port_host),
        user=identity.account.name,
        host_key=host_key,
        keys=keys,
        password=password,
        password_why=why,
        login_key_file=login_key,
        # A checkout may lie below /tmp, or a folder that a group writes to: no login there else.
        # Not root: /run is a tmpfs that everybody may write to, and only this one user can log in.
        strict_modes=host.image and host.me.uid == 0,
        rsa_host_key=state.rsa_host_key if state.host_key else None,
        compatible=settings.ssh_compatible,
        drop_ins="" if settings.safe_mode else folders.SSHD_CONFIG,
        others=_others(host, identity),
    )
    return ssh, None


# Pattern characters of AllowUsers are none of these (sshd_config(5), PATTERNS).
_PLAIN_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
_NOBODY = 65534


def _others(host: Host, identity: Identity) -> tuple[str, ...]:
    """Return who may log in besides the workspace user.

    Root where it may, and accounts that somebody added for people.  None of the base's: a key that
    is given opens every account that sshd knows, and tunnels and sftp need no shell.
    """
    root = ("root",) if identity.root_login and host.me.uid == 0 else ()
    added = (
        account.name
        for account in (host.accounts if host.image else ())
        if account.uid >= FIRST_OF_PEOPLE
        and account.uid != _NOBODY
        and not account.shell.endswith(NO_LOGIN)
        and re.fullmatch(_PLAIN_NAME, account.name)
    )
    return tuple(dict.fromkeys(n for n in (*root, *added) if n != identity.account.name))


def _password(
    machine: Machine, settings: Settings, state: State, identity: Identity
) -> tuple[Secret | None, str]:
    """Return the workspace user's password, or None and why there is none."""
    refusals = (
        (settings.ssh_password == "off", "LAUNCHER_SSH_PASSWORD=off"),
        (settings.key_source_set or bool(state.keys), "keys are set, so keys only"),
        (not machine.host.image, "this machine's own accounts are left alone"),
        (machine.host.platform in _PASSWORD_LEAKS, "this platform ships logs elsewhere"),
        (machine.host.me.uid != 0, "only root can set one"),
        (identity.is_root, "root logs in by key only"),
        (identity.names != "kept" and identity.names != "written", "/etc cannot be written"),
    )
    for refused, why in refusals:
        if refused:
            return None, why
    return state.password, "no key source is set"


def _address(
    machine: Machine, settings: Settings, port: int, told: int | None, *, http: bool = False
) -> Address:
    """Return where `port` is reached from outside, as far as the environment tells."""
    env = settings.environ
    if published := address.published(env, port):
        return published
    if told:
        return Address(address.public_host(env), told, port, certain=True)
    if http and (proxied := address.proxied(env, port)):
        return proxied
    here = "" if settings.listen in ("0.0.0.0", "::") else settings.listen
    if not machine.host.image:
        return Address(here or "127.0.0.1", port, port, certain=True)
    if machine.host.machines_network:  # --network host: nothing is published, a port is itself
        return Address(here or address.public_host(env), port, port, certain=True)
    # `-p 2222:22` is the documented command: nobody publishes 22 as 22.
    assumed = 2222 if port == 22 else port
    return Address(address.public_host(env), assumed, port, certain=False)


def idle_line(command: Sequence[str], host: Host, settings: Settings) -> str | None:
    """Return what to say of a command that nobody gets in by, where people want to get in.

    A start command of a template that was made for another image, say: the pod is paid for, and
    nobody can enter it.
    """
    if is_unguarded(command):
        return (
            "launcher: without a token Jupyter stays on this container's own 127.0.0.1: whoever "
            "reaches it may run programs; leave the empty token out, or choose one"
        )
    env = settings.environ
    published = any(address.published(env, port) for port in (settings.ssh_port, 8888))
    told = {"ssh_port_host", "jupyter_port_host"} & settings.given.keys()
    wanted = host.platform in ("runpod", "vast") or published or told or settings.key_source_set
    if not wanted or not keeps_alive(command):
        return None
    return (
        "launcher: this command replaces the services, so neither Jupyter nor SSH of this image "
        "runs; leave the start command empty, or set LAUNCHER_WITH_COMMAND=services to have both"
    )
