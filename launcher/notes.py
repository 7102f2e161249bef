"""What is not as it should be, for the banner: what, what it means, what mends it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher import checks
from launcher.checks import Verdict
from launcher.evidence import Evidence
from launcher.machine import Account, Machine
from launcher.model import Finding, Ssh
from launcher.settings import Settings


def judge(machine: Machine, settings: Settings) -> Verdict:
    """Judge what a start knows: the machine, with nothing tried that takes time."""
    return checks.judge(Evidence(machine, dict(settings.environ)))


def plan_notes(machine: Machine, settings: Settings, ssh: Ssh | None) -> tuple[Finding, ...]:
    """Return everything the user should know, most important first."""
    verdict = judge(machine, settings)
    return (
        *([verdict.failure] if verdict.failure else []),
        *verdict.warnings,
        *_workspace_notes(machine, settings),
        *_key_notes(ssh),
    )


def _workspace_notes(machine: Machine, settings: Settings) -> Iterator[Finding]:
    host, path = machine.host, settings.workspace
    user: Account = host.account or host.me
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
    for key in ssh.keys if ssh else ():
        if key.fault:
            yield Finding(
                "ssh.bad_key",
                f"{key.source} line {key.number}: {key.fault}",
                "this key cannot log in",
                "paste the whole line of the .pub file",
            )
