"""The environment as each way in can carry it: sshd, a shell's start-up files.  Pure.

User values are data here: each goes through the quoting of the one format it lands in.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from launcher.model.plan import Plan
from launcher.plan.environment import OF_AN_ACCOUNT, WAYS_IN

# sshd reads one SetEnv line, without newlines, and past about 990 variables or 256 kB every
# login fails although `sshd -t` passes (measured, OpenSSH 9.2): stay well inside.
SETENV_VARIABLES = 900
SETENV_BYTES = 200_000

_OF_ROOT = (
    "/opt/launcher/command", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin",
    "/sbin", "/bin",
)  # fmt: skip
# Where a program is found and runs; sshd carries them before others.
_FIRST = {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG", "LC_ALL"}


def environment_sh(plan: Plan) -> str:
    """Return the shell text that gives `docker exec … bash` and logins what they lack.

    It only fills gaps, so `CUDA_VISIBLE_DEVICES=1 bash` keeps its 1.
    """
    over_ssh, _ = setenv_variables(plan)
    planned = {var.name: var.value for var in plan.environment}
    hooks = {name for name, _ in plan.before_hooks}
    missing = {n: v for n, v in plan.user_environment().items() if n in hooks or n not in over_ssh}
    return _script(plan, {**missing, **planned})


def login_sh(plan: Plan) -> str:
    """Return the shell text that gives a login shell everything: `sudo -i` and `su -` begin
    with nothing, and Debian's /etc/profile has just replaced PATH.
    """
    everything = plan.user_environment()
    path = everything.pop("PATH", None)
    return _script(plan, everything) + (f"export PATH={shlex.quote(path)}\n" if path else "")


def for_root(script: str, plan: Plan) -> str:
    """Return a script for root's own shells: who may not be root has no program there, either.

    The container's PATH begins with a folder of the user's: what is found there is found last.
    """
    path = plan.user_environment().get("PATH", "")
    if plan.identity.sudo or plan.identity.is_root or not path:
        return script
    entries = sorted(path.split(":"), key=lambda entry: entry not in _OF_ROOT)
    known = {path, _container(plan).get("PATH", path)}
    pattern = "|".join(shlex.quote(found) for found in sorted(known))
    ordered = shlex.quote(":".join(entries))
    return f"{script}case $PATH in {pattern}) export PATH={ordered} ;; esac\n"


def setenv_variables(plan: Plan) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that sshd can carry, and the names of those it cannot.

    The largest are those it cannot, but for what is planned and what every program needs.
    """
    everything = plan.user_environment()
    planned = {var.name for var in plan.environment}
    names = everything.keys() - OF_AN_ACCOUNT
    cost = {n: len(f"{n}={everything[n]}".encode(errors="surrogateescape")) + 3 for n in names}
    carried: set[str] = set()
    left = SETENV_BYTES
    for name in sorted(names, key=lambda n: (n not in planned, n not in _FIRST, cost[n], n)):
        one_line = not set(everything[name]) & {"\n", "\r", "\0"}
        if one_line and len(carried) < SETENV_VARIABLES and cost[name] <= left:
            carried.add(name)
            left -= cost[name]
    in_order = sorted(carried, key=lambda name: (name not in planned, name))
    return {name: everything[name] for name in in_order}, tuple(sorted(names - carried))


def exec_environment(plan: Plan, own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of `launcher exec -- CMD`, which a `docker exec` starts.

    Args:
        own: what the engine gave it: the container's variables, and those of `docker exec -e`,
            which are kept.  Not a PATH, which sudo replaces.
    """
    container = _container(plan)
    given = {
        name: value
        for name, value in own.items()
        if name.isidentifier()
        and name.isascii()
        and name not in OF_AN_ACCOUNT
        and name not in plan.left_out
        and name not in WAYS_IN
        and name != "PATH"
        and container.get(name) != value
    }
    return {**plan.user_environment(), **given}


def _container(plan: Plan) -> dict[str, str]:
    """Return the environment that the engine gives: as inherited, but for what hooks changed."""
    engine = {name: value for name, value in plan.before_hooks if value is not None}
    return {**dict(plan.inherited), **engine}


def _script(plan: Plan, variables: Mapping[str, str]) -> str:
    lines = ["# Written by the launcher at every start."]
    if plan.identity.umask is not None:
        lines.append(f"umask {plan.identity.umask:04o}")
    container = _container(plan)
    for name, value in sorted(variables.items()):
        if name not in OF_AN_ACCOUNT:
            lines += _assignment(name, value, container.get(name, value))
    user = plan.identity.account
    if plan.identity.names == "wrapped":  # the engine took HOME from another passwd, or none
        home = f"export HOME={shlex.quote(user.home)}"
        lines.append(f'[ "${{UID-}}" != {user.uid} ] || [ -w "${{HOME:-/}}" ] || {home}')
    return "\n".join([*lines, ""])


def _assignment(name: str, value: str, before: str) -> Iterator[str]:
    """Set a variable that is missing, or that is as the engine made it `before` the plan."""
    export = f"export {name}={shlex.quote(value)}"
    yield f'[ "${{{name}+set}}" ] || {export}'
    if before != value:
        yield f'[ "${{{name}-}}" != {shlex.quote(before)} ] || {export}'
