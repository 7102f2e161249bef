"""sshd as a service: its configuration, and how to become it.  Pure."""

from __future__ import annotations

from launcher.doors import setenv_variables
from launcher.model import Plan, Service, Ssh

# No NIST curves, no SHA-1, no CBC: what ssh-audit calls a failure.
_SSHD_ALGORITHMS = """\
KexAlgorithms sntrup761x25519-sha512@openssh.com,curve25519-sha256,curve25519-sha256@libssh.org,\
diffie-hellman-group16-sha512,diffie-hellman-group18-sha512
Ciphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com,\
aes256-ctr,aes192-ctr,aes128-ctr
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,umac-128-etm@openssh.com
HostKeyAlgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256
"""


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
