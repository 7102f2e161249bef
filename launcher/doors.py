"""The environment as each way in can carry it: sshd, a shell's start-up files.  Pure.

User values are data here: each goes through the quoting of the one format it lands in.
"""

from __future__ import annotations

import shlex

from launcher.model import Plan

# sshd reads one SetEnv line, without newlines, and past about 990 variables or 256 kB every
# login fails although `sshd -t` passes (measured, OpenSSH 9.2): stay well inside.
SETENV_VARIABLES = 900
SETENV_BYTES = 200_000

# A login has its own, which differ from the workspace user's when root logs in.
_ACCOUNT_VARIABLES = frozenset({"HOME", "USER", "LOGNAME", "SHELL"})


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
