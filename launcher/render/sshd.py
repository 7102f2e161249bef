"""sshd as a service: its configuration, and how to become it.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.model import run_files, state_files
from launcher.model.plan import KeyLine, Plan, RenderedFile, Service, Ssh
from launcher.render.shell import setenv_variables

_RSA = "ssh-rsa "  # how such a public key begins
# Without NIST curves, SHA-1, 2048-bit groups, encrypt-and-MAC: what ssh-audit calls a failure, and
# what it warns of where there is better.  Taken away from sshd's own, and not listed: so a newer
# sshd brings its newer, post-quantum key exchanges along.
_SSHD_ALGORITHMS = """\
KexAlgorithms -ecdh-sha2-*,diffie-hellman-group1-*,diffie-hellman-group14-*,\
diffie-hellman-group-exchange-*
MACs -*sha1*,*md5*,umac-64*,umac-128@openssh.com,hmac-sha2-256,hmac-sha2-512
HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256
"""
# For Java programs, file managers and appliances of ten years ago: all that sshd has by itself, and
# SHA-1 where they know nothing else.
_COMPATIBLE_ALGORITHMS = """\
KexAlgorithms +diffie-hellman-group14-sha1
MACs +hmac-sha1
HostKeyAlgorithms +ssh-rsa
PubkeyAcceptedAlgorithms +ssh-rsa
"""


def sshd_config(plan: Plan, ssh: Ssh) -> str:
    carried, _ = setenv_variables(plan)
    setenv = " ".join(_sshd_word(f"{name}={value}") for name, value in carried.items())
    only_rsa = ssh.host_key.startswith(_RSA)
    kept = [
        *([] if only_rsa else [state_files.ED25519_HOST_KEY]),
        state_files.RSA_HOST_KEY,  # made by and by; sshd does without until it is told again
    ]
    host_keys = "\n".join(f"HostKey {_sshd_word(f'{plan.paths.state}/{name}')}" for name in kept)
    keys = _sshd_word(f"{plan.paths.run}/{run_files.AUTHORIZED_KEYS}".replace("%", "%%"))
    return f"""\
# Written by the launcher at every start.
Port {ssh.port}
{f"ListenAddress {ssh.listen}" if ssh.listen else "# every address"}
{host_keys}
AuthorizedKeysFile {keys} .ssh/authorized_keys
StrictModes {"yes" if ssh.strict_modes else "no"}
PidFile none
PasswordAuthentication {"yes" if ssh.password else "no"}
KbdInteractiveAuthentication no
AllowUsers {" ".join(_sshd_word(name) for name in (ssh.user, *ssh.others))}
PermitRootLogin {"prohibit-password" if plan.identity.root_login else "no"}
# PAM in a container fails on loginuid and audit, and the account is no secret of the host's.
UsePAM no
Subsystem sftp internal-sftp{_sftp_umask(plan)}
{f"SetEnv {setenv}" if setenv else "# no variable to set"}
# The first value counts: those above are settled, and those below only where no file of yours has
# another.
{f"Include {ssh.drop_ins}/*.conf" if ssh.drop_ins else "# safe mode: no file of yours"}
UseDNS no
PrintMotd no
# An agent offers each of its keys.
MaxAuthTries 20
X11Forwarding no
AllowAgentForwarding yes
AllowTcpForwarding yes
ClientAliveInterval 30
# Connections that have not logged in yet.  A classroom or a CI job logs in all at once, perhaps
# behind one address; the default drops at ten.  No address may take the places of all others, and
# those that say nothing leave soon.  Each takes a descriptor: with 1024 of them 900 are safe.
LoginGraceTime 30
MaxStartups 600:30:900
PerSourceMaxStartups 500
MaxSessions 100
{_COMPATIBLE_ALGORITHMS if ssh.compatible else _SSHD_ALGORITHMS}"""


def authorized_keys(plan: Plan, keys: Sequence[KeyLine]) -> RenderedFile:
    """Return the keys that may log in, for everybody to read: sshd reads them as the user."""
    text = "".join(f"{key.text}\n" for key in keys if key.fault is None)
    return RenderedFile(f"{plan.paths.run}/{run_files.AUTHORIZED_KEYS}", text, 0o644, -1, -1)


def _sftp_umask(plan: Plan) -> str:
    """sshd adds 022 to its umask, so files that arrive need to be told: sftp-server(8), -u."""
    umask = plan.identity.umask
    return "" if umask is None else f" -u {umask:04o}"


def _sshd_word(text: str) -> str:
    r"""Quote one word of sshd_config: only `"` and `\` are special inside quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def sshd_service(plan: Plan, ssh: Ssh) -> Service:
    """sshd runs as whoever runs the launcher, with nothing of the user's environment.

    But for what gives the user a name: nss_wrapper(1).
    """
    wrapped = plan.identity.names == "wrapped"
    names = [
        (var.name, var.value.partition(":")[0])  # not a library of the user's, in root's sshd
        for var in plan.environment
        if wrapped and (var.name == "LD_PRELOAD" or var.name.startswith("NSS_WRAPPER_"))
    ]
    return Service(
        name="sshd",
        argv=(ssh.sshd, "-D", "-e", "-f", f"{plan.paths.run}/{run_files.SSHD_CONFIG}"),
        uid=-1,
        gid=-1,
        groups=(),
        cwd="/",
        env=(("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), *names),
    )
