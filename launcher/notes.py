"""What is not as it should be, for the banner: what, what it means, what mends it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher import checks
from launcher.checks import Verdict
from launcher.evidence import Evidence
from launcher.host import Account
from launcher.hostkey import OTHER_FORMAT, PRIVATE_KEY
from launcher.machine import Machine
from launcher.model import Finding, Identity, Ssh
from launcher.settings import Settings
from launcher.shortcomings import shortcomings

_KEY_FIXES = {
    PRIVATE_KEY: (
        "nobody can log in with it, and whoever sees this container's settings has it",
        "make a new pair, and paste the line of its .pub file",
    ),
    OTHER_FORMAT: ("this key cannot log in", "ssh-keygen -i -f FILE prints it as OpenSSH's"),
}


def judge(machine: Machine, settings: Settings) -> Verdict:
    """Judge what a start knows: the machine, with nothing tried that takes time."""
    return checks.judge(Evidence(machine, dict(settings.environ)))


def plan_notes(
    machine: Machine,
    settings: Settings,
    ssh: Ssh | None,
    identity: Identity,
    home_fault: str | None = None,
) -> tuple[Finding, ...]:
    """Return everything the user should know, most important first."""
    verdict = judge(machine, settings)
    return (
        *([verdict.failure] if verdict.failure else []),
        *verdict.warnings,
        *_workspace_notes(machine, settings, identity.account),
        *shortcomings(machine.host, settings, identity, ssh, home_fault),
        *_key_notes(ssh),
    )


def _workspace_notes(machine: Machine, settings: Settings, user: Account) -> Iterator[Finding]:
    host, path = machine.host, settings.workspace
    if host.workspace_missing:
        yield Finding(
            "workspace.missing",
            f"{path} does not exist",
            "Jupyter opens in the home directory",
            f"mount one: docker run -v $PWD:{path} …",
        )
    elif not host.workspace_writable:
        yield Finding(
            "workspace.readonly",
            f"{user.name} (uid {user.uid}) cannot write {path}",
            "notebooks cannot be saved there",
            f"on the host: sudo chown -R {user.uid} DIRECTORY, the one that is mounted there",
        )


def _key_notes(ssh: Ssh | None) -> Iterator[Finding]:
    """Name what cannot log in, by source and line: one finding for what is alike."""
    alike: dict[tuple[str, str], list[int]] = {}
    for key in ssh.keys if ssh else ():
        if key.fault:
            alike.setdefault((key.source, key.fault), []).append(key.number)
    for (source, fault), numbers in alike.items():
        means, fix = _KEY_FIXES.get(
            fault, ("this key cannot log in", "paste the whole line of the .pub file")
        )
        several = "lines" if len(numbers) > 1 else "line"
        shown = ", ".join(str(number) for number in numbers[:5])
        more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
        yield Finding("ssh.bad_key", f"{source} {several} {shown}{more}: {fault}", means, fix)
