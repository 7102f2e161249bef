"""Which keys cannot log in, and why: of the settings, and of the user's own file.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.how_to_run import is_rented
from launcher.model.host import Account, Host
from launcher.model.plan import Finding, Ssh, State
from launcher.model.public_key import OTHER_FORMAT, PRIVATE_KEY

_KEY_FIXES = {
    PRIVATE_KEY: (
        "nobody can log in with it, and whoever sees this container's settings has it",
        "make a new pair, and paste the line of its .pub file",
    ),
    OTHER_FORMAT: ("this key cannot log in", "ssh-keygen -i -f FILE prints it as OpenSSH's"),
}


def key_notes(ssh: Ssh | None) -> Iterator[Finding]:
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


def own_key_notes(
    host: Host, user: Account, ssh: Ssh | None, state: State | None
) -> Iterator[Finding]:
    """Name keys in the user's own file that sshd will not look at: StrictModes, sshd_config(5)."""
    if not (ssh and ssh.strict_modes and state and state.keys_fault):
        return
    path, _, why = state.keys_fault.partition("\n")
    mend = "chmod go-w" if "write" in why else f"chown {user.uid}"
    yield Finding(
        "ssh.keys_refused",
        f"{path}: {why}",
        "sshd refuses every key in ~/.ssh/authorized_keys for it",
        f"in it, as root: {mend} {path}"
        + ("" if is_rented(host) else "; on a network disk, on the host")
        + "; or give the keys as PUBLIC_KEY",
    )
