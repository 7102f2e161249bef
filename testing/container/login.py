"""Somebody who logs in over SSH: with OpenSSH's own clients, and with paramiko."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from testing.container.box import Box

USER = "dev"
PASSWORD = re.compile(r"^   password (\S+)$", re.MULTILINE)
RSA_KEY = re.compile(r"RSA host key(?:, too:)? (SHA256:\S+)")
HOST_KEY = re.compile(r"host key (SHA256:\S+)")
SSH_LINE = re.compile(r"^ +(ssh -p \d+ \S+)$", re.MULTILINE)
# Nothing of the machine's own: no configuration, agent, known hosts or keys, and no questions.
AS_OPENSSH_CHOOSES = (
    *("-F", "none"),
    *("-o", "StrictHostKeyChecking=no"),
    *("-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "IdentityAgent=none"),
    *("-o", "IdentitiesOnly=yes"),
    *("-o", "LogLevel=ERROR"),
    *("-o", "ConnectTimeout=10"),
)
# Its first choice, a key exchange that no quantum computer breaks, is nine tenths of what a login
# costs its client.  From a file: a test's own `-o KexAlgorithms=…` counts for more.
CONFIGURATION = Path(__file__).parent / "ssh_config"
OPTIONS = ("-F", str(CONFIGURATION), *AS_OPENSSH_CHOOSES[2:])


@dataclass(frozen=True)
class KeyPair:
    """A key pair made for one test."""

    private: Path
    public: str  # the line of the .pub file


def make_key(folder: Path, kind: str = "ed25519") -> KeyPair:
    """Make a key pair in `folder`."""
    path = folder / f"id_{kind}_{len(list(folder.iterdir()))}"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "test", "-f", path],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return KeyPair(path, path.with_name(f"{path.name}.pub").read_text().strip())


@dataclass(frozen=True)
class Login:
    """A way in: a port of this machine, a user, and a key or a password."""

    port: int
    user: str = USER
    key: KeyPair | None = None
    password: str | None = None

    def command(self, *words: str) -> list[str]:
        """Return `ssh HOST WORDS…`, to be run `with_password`."""
        return [*self._client("ssh", "-p"), f"{self.user}@127.0.0.1", *words]

    def ssh(
        self, *words: str, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run `ssh HOST WORDS…`, which sends the words as one line to the user's shell."""
        return self.run(self.command(*words), stdin=stdin, timeout=timeout)

    def scp(self, source: str, target: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run `scp`; `:PATH` is a path on the other side."""
        places = [
            f"{self.user}@127.0.0.1{place}" if place.startswith(":") else place
            for place in (source, target)
        ]
        return self.run([*self._client("scp", "-P"), *options, *places])

    def sftp(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run `sftp`, with its commands on standard input."""
        # -b would turn BatchMode on, which asks for no password.
        return self.run([*self._client("sftp", "-P"), f"{self.user}@127.0.0.1"], stdin=commands)

    @contextmanager
    def paramiko(self) -> Iterator[paramiko.SSHClient]:
        """Log in with paramiko.  Raises paramiko.AuthenticationException where it is refused."""
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        try:
            client.connect(
                "127.0.0.1",
                self.port,
                self.user,
                password=self.password,
                key_filename=str(self.key.private) if self.key else None,
                allow_agent=False,
                look_for_keys=False,
                timeout=20,
                banner_timeout=20,
                auth_timeout=20,
            )
            yield client
        finally:
            client.close()

    def is_let_in(self) -> bool:
        """Say whether the login works at all."""
        try:
            with self.paramiko() as client:
                return run_over(client, "echo in").strip() == "in"
        except (paramiko.AuthenticationException, paramiko.BadAuthenticationType):
            return False

    def _client(self, program: str, port_option: str) -> list[str]:
        key = ["-i", str(self.key.private)] if self.key else []
        return [program, *OPTIONS, *key, port_option, str(self.port)]

    def run(
        self, argv: Sequence[str], *, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run one of OpenSSH's programs, with the password at hand where there is one."""
        return subprocess.run(
            [*self.with_password, *argv],
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    @property
    def with_password(self) -> tuple[str, ...]:
        """OpenSSH asks a terminal for the password; sshpass is that terminal, -e: from SSHPASS."""
        return ("sshpass", "-e") if self.password else ()

    @property
    def environment(self) -> dict[str, str]:
        """Return the client's environment; what ssh asks for it must find there."""
        secret = {"SSHPASS": self.password} if self.password else {}
        return {**os.environ, "TERM": "xterm", **secret}


def run_over(client: paramiko.SSHClient, command: str, timeout: float = 30) -> str:
    """Run a command over an open connection; return what it wrote to stdout."""
    _, stdout, _ = client.exec_command(command, timeout=timeout)
    return str(stdout.read().decode())


def login(box: Box, key: KeyPair | None = None, *, user: str = USER) -> Login:
    """Wait for the banner; return the way in by `key`, or without one by the banner's password."""
    banner = box.wait_for_banner()
    if key:
        return Login(box.port(22), user, key)
    found = PASSWORD.search(banner)
    assert found, f"no password in\n{banner}"
    return Login(box.port(22), user, password=found[1])


def has_every_host_key(box: Box) -> bool:
    """Return whether sshd serves the RSA host key, too: by the banner, or a minute later."""
    return bool(RSA_KEY.search(box.logs()))


def host_key(client: paramiko.SSHClient) -> str:
    """Return the fingerprint of the host key that this connection saw."""
    transport = client.get_transport()
    assert transport
    return str(transport.get_remote_server_key().fingerprint)


def printed_host_key(banner: str) -> str:
    """Return the fingerprint that the banner prints."""
    found = HOST_KEY.search(banner)
    assert found, f"no host key in\n{banner}"
    return found[1]


def printed_command(banner: str) -> list[str]:
    """Return the words of the SSH line exactly as the banner prints it."""
    found = SSH_LINE.search(banner)
    assert found, f"no SSH line in\n{banner}"
    return found[1].split()
