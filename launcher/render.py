"""Turn the plan into the text of every file that the services read.  Pure: returns, never writes.

User values are data here: each goes through the quoting of the one format it lands in.
"""

from __future__ import annotations

import json
import shlex

from launcher import codec
from launcher.machine import Machine
from launcher.model import Jupyter, Plan, RenderedFile, Service, Ssh

# sshd reads one SetEnv line, without newlines, and past about 990 variables or 256 kB every
# login fails although `sshd -t` passes (measured, OpenSSH 9.2): stay well inside.
SETENV_VARIABLES = 900
SETENV_BYTES = 200_000

# A login has its own, which differ from the workspace user's when root logs in.
_ACCOUNT_VARIABLES = frozenset({"HOME", "USER", "LOGNAME", "SHELL"})

# No NIST curves, no SHA-1, no CBC: what ssh-audit calls a failure.
_SSHD_ALGORITHMS = """\
KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,\
diffie-hellman-group16-sha512,diffie-hellman-group18-sha512
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,\
aes256-ctr,aes192-ctr,aes128-ctr
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,umac-128-etm@openssh.com
HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256
"""


def render(plan: Plan) -> tuple[RenderedFile, ...]:
    """Return every file and directory to be made, parents first."""
    user = plan.identity.account
    run = plan.paths.run
    root = _Owner(run)
    files = [
        root.directory("", 0o755),
        root.directory("log", 0o700),
        root.directory("services", 0o700),
        root.file("plan.json", codec.to_json(plan, reveal=True), 0o600),
        RenderedFile(f"{run}/environment.sh", environment_sh(plan), 0o640, -1, user.gid),
        RenderedFile(f"{run}/path.sh", path_sh(plan), 0o640, -1, user.gid),
    ]
    services: list[Service] = []
    if plan.jupyter:
        config = json.dumps(jupyter_config(plan, plan.jupyter), indent=1)
        files += [
            RenderedFile(f"{run}/jupyter", None, 0o700, user.uid, user.gid),
            RenderedFile(f"{run}/jupyter.json", config, 0o600, user.uid, user.gid),
        ]
        services.append(jupyter_service(plan))
    if plan.ssh:
        keys = "".join(f"{key.text}\n" for key in plan.ssh.keys if key.fault is None)
        files += [
            root.directory("ssh", 0o755),
            root.file("ssh/authorized_keys", keys, 0o644),  # sshd reads it as the user
            root.file("ssh/sshd_config", sshd_config(plan, plan.ssh), 0o600),
        ]
        services.append(sshd_service(plan, plan.ssh))
    files += [
        root.file(f"services/{service.name}.json", codec.to_json(service), 0o600)
        for service in services
    ]
    return tuple(files)


def machine_file(plan: Plan, machine: Machine) -> RenderedFile:
    """Return what detect found, as the banner and `launcher detect` will read it."""
    return _Owner(plan.paths.run).file("machine.json", codec.to_json(machine), 0o600)


class _Owner:
    """Files of whoever runs the launcher (uid -1: do not change the owner)."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def file(self, name: str, content: str, mode: int) -> RenderedFile:
        return RenderedFile(f"{self._directory}/{name}", content, mode, -1, -1)

    def directory(self, name: str, mode: int) -> RenderedFile:
        path = f"{self._directory}/{name}".rstrip("/")
        return RenderedFile(path, None, mode, -1, -1)


# --- the environment ---------------------------------------------------------------------


def environment_sh(plan: Plan) -> str:
    """Return the shell text that gives `docker exec … bash` and logins what they lack.

    It only fills gaps, so `CUDA_VISIBLE_DEVICES=1 bash` keeps its 1.
    """
    over_ssh, _ = setenv_variables(plan)
    planned = {var.name: var.value for var in plan.environment}
    missing = {n: v for n, v in plan.user_environment().items() if n not in over_ssh}
    lines = [
        f'[ "${{{name}+set}}" ] || export {name}={shlex.quote(value)}'
        for name, value in sorted({**missing, **planned}.items())
        if name not in _ACCOUNT_VARIABLES
    ]
    return "\n".join(["# Written by the launcher at every start.", *lines, ""])


def path_sh(plan: Plan) -> str:
    """Return the shell text that undoes Debian's /etc/profile, which resets PATH."""
    path = plan.user_environment().get("PATH")
    return f"export PATH={shlex.quote(path)}\n" if path else ""


def setenv_variables(plan: Plan) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that sshd can carry, and the names of those it cannot."""
    carried: dict[str, str] = {}
    left_out: list[str] = []
    size = 0
    planned = [var.name for var in plan.environment]
    everything = plan.user_environment()
    for name in sorted(
        everything.keys() - _ACCOUNT_VARIABLES, key=lambda name: (name not in planned, name)
    ):
        cost = len(f"{name}={everything[name]}".encode(errors="surrogateescape")) + 3
        fits = len(carried) < SETENV_VARIABLES and size + cost <= SETENV_BYTES
        if fits and not set(everything[name]) & {"\n", "\r", "\0"}:
            carried[name] = everything[name]
            size += cost
        else:
            left_out.append(name)
    return carried, tuple(left_out)


# --- Jupyter --------------------------------------------------------------------------------


def jupyter_config(plan: Plan, jupyter: Jupyter) -> dict[str, object]:
    """Return what our Jupyter start program reads: `final` cannot be overridden by user files."""
    return {
        "default": {
            "ServerApp": {
                "root_dir": plan.paths.workspace,
                "open_browser": False,
                "terminado_settings": {"shell_command": [plan.identity.account.shell, "-l"]},
                "websocket_ping_interval": 30,
            },
            # Neither asks the network for news nor for updates of a pinned package.
            "LabApp": {
                "news_url": None,
                "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
            },
        },
        "final": {
            "ServerApp": {
                "ip": jupyter.listen,
                "port": jupyter.port,
                "port_retries": 0,  # another port would be one that nobody published
                "base_url": jupyter.base_url,
                "allow_root": plan.identity.is_root,
                "allow_remote_access": True,
                "jpserver_extensions": dict.fromkeys(jupyter.left_out, False),
            },
            "IdentityProvider": {"token": jupyter.token.reveal()},
        },
    }


def jupyter_service(plan: Plan) -> Service:
    run = plan.paths.run
    return _user_service(
        plan,
        "jupyter",
        (plan.paths.python, f"{plan.paths.guest}/jupyter.py", f"{run}/jupyter.json"),
        {"JUPYTER_RUNTIME_DIR": f"{run}/jupyter"},
    )


def _user_service(plan: Plan, name: str, argv: tuple[str, ...], extra: dict[str, str]) -> Service:
    account = plan.identity.account
    return Service(
        name=name,
        argv=argv,
        uid=account.uid,
        gid=account.gid,
        groups=account.groups,
        cwd=plan.paths.workspace,
        env=tuple({**plan.user_environment(), **extra}.items()),
    )


# --- sshd -----------------------------------------------------------------------------------


def sshd_config(plan: Plan, ssh: Ssh) -> str:
    carried, _ = setenv_variables(plan)
    setenv = " ".join(_sshd_word(f"{name}={value}") for name, value in carried.items())
    host_key = _sshd_word(f"{plan.paths.state}/ssh_host_ed25519_key")
    keys = _sshd_word(f"{plan.paths.run}/ssh/authorized_keys".replace("%", "%%"))
    return f"""\
# Written by the launcher at every start.
Port {ssh.port}
{f"ListenAddress {ssh.listen}" if ssh.listen else "# every address"}
HostKey {host_key}
AuthorizedKeysFile {keys} .ssh/authorized_keys
StrictModes {"yes" if ssh.strict_modes else "no"}
PidFile none
PasswordAuthentication {"yes" if ssh.password else "no"}
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
# PAM in a container fails on loginuid and audit, and the account is no secret of the host's.
UsePAM no
UseDNS no
PrintMotd no
X11Forwarding no
AllowAgentForwarding yes
AllowTcpForwarding yes
ClientAliveInterval 30
LoginGraceTime 60
# A classroom or a CI job logs in all at once; the default drops at ten.
MaxStartups 200:30:400
MaxSessions 100
Subsystem sftp internal-sftp
{_SSHD_ALGORITHMS}{f"SetEnv {setenv}" if setenv else "# no variable to set"}
"""


def _sshd_word(text: str) -> str:
    r"""Quote one word of sshd_config: only `"` and `\` are special inside quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def sshd_service(plan: Plan, ssh: Ssh) -> Service:
    """sshd runs as whoever runs the launcher, with nothing of the user's environment."""
    return Service(
        name="sshd",
        argv=(ssh.sshd, "-D", "-e", "-f", f"{plan.paths.run}/ssh/sshd_config"),
        uid=-1,
        gid=-1,
        groups=(),
        cwd="/",
        env=(("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),),
    )
