"""Which of the container's variables the user's programs get.  Pure.

To leave one out is hygiene, not protection: kernels and terminals have Jupyter's own uid, and
whoever is root in the box reads them all in /proc/1/environ.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from launcher.checks.facts.how_to_run import tell
from launcher.model.host import Host
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import EnvVar, Finding
from launcher.settings.table import TABLE, Settings

# Who may come in: tokens, passwords and keys, under our names and under those of other images.
WAYS_IN = {
    name
    for row in TABLE
    if row.secret or row.field == "public_key"
    for name in (row.name, *row.aliases)
} | {"ROOT_PASSWORD", "USER_PASSWORD", "WORKSPACE_AUTH_PASSWORD"}

# A login has its own, which differ from the workspace user's when root logs in.
OF_AN_ACCOUNT = {"HOME", "LOGNAME", "SHELL", "USER"}

# They describe a process or a login rather than the container.
OF_A_PROCESS = OF_AN_ACCOUNT | {"HOSTNAME", "OLDPWD", "PWD", "SHLVL", "TERM", "_"}

# The kernel gives arguments and environment together a quarter of the stack limit, within these
# bounds, and counts a pointer for each string (fs/exec.c, bprm_stack_limits).
_LEAST, _MOST = 128 << 10, 6 << 20  # bytes
_POINTER = 8  # bytes

_PROTOCOLS = ("tcp", "udp", "sctp")  # of a Kubernetes service
# What follows a service's name; looked for ahead, since the name itself may hold such a part.
_OF_A_SERVICE = (
    r"(?=_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z)"
)


class Inherited(NamedTuple):
    """The container's environment, sorted into what the user's programs get and what not."""

    variables: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]  # ways in, service links, those that the user named
    too_large: tuple[str, ...]  # what programs could not be started with, largest first


class ChangedByHooks(NamedTuple):
    """The variables that hooks changed."""

    before: tuple[tuple[str, str | None], ...]  # as they were, of those that programs get
    left_out: tuple[str, ...]  # those that programs do not get


def inherit(settings: Settings, planned: Sequence[EnvVar], stack: int | None) -> Inherited:
    """Sort the container's variables.

    Args:
        planned: what the launcher sets itself.
        stack: the limit of a process's stack, bytes; None = unlimited.
    """
    environ = settings.environ
    unwanted = {*WAYS_IN, *service_links(environ), *named_by_the_user(settings)} & environ.keys()
    kept = {
        name: value
        for name, value in sorted(environ.items())
        if name not in unwanted
        and name not in OF_A_PROCESS
        and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    }
    ours = {var.name: var.value for var in planned}
    theirs = {name: value for name, value in kept.items() if name not in ours}
    excess = sum(map(size, ours.items())) + sum(map(size, theirs.items())) - _budget(stack)
    too_large = tuple(_largest(theirs, excess))
    return Inherited(
        tuple((name, value) for name, value in kept.items() if name not in too_large),
        tuple(sorted(unwanted)),
        too_large,
    )


def size(variable: tuple[str, str]) -> int:
    """Return the bytes that a variable takes of what a program can be started with."""
    return len("=".join(variable).encode(errors="surrogateescape")) + 1 + _POINTER


def service_links(environ: Mapping[str, str]) -> set[str]:
    """Return the variables that Kubernetes made of the services beside a pod.

    A service NAME is told by three that agree: NAME_SERVICE_HOST, NAME_SERVICE_PORT and
    NAME_PORT=tcp://HOST:PORT (kubernetes, pkg/kubelet/envvars).  So a FOO_PORT of the user's is
    none.  The cluster's own, KUBERNETES_…, stays: clients find their cluster by it, and
    Kubernetes sets it without service links, too.
    """
    named = (
        name.removesuffix("_SERVICE_HOST") for name in environ if name.endswith("_SERVICE_HOST")
    )
    services = {service for service in named if _is_service(service, environ)}
    if not services:
        return set()
    return {
        name
        for name in environ
        if any(name[: match.start()] in services for match in re.finditer(_OF_A_SERVICE, name))
    }


def changed_by_hooks(
    container: Mapping[str, str],
    environ: Mapping[str, str],
    got: Collection[str],
) -> ChangedByHooks:
    """Return what hooks changed: who comes in by `docker exec` still has the container's values.

    Args:
        container: the environment that the container was started with.
        environ: what the hooks made of it.
        got: names of the variables that the user's programs get.
    """
    if container == environ:
        return ChangedByHooks((), ())
    names = (container.keys() | environ.keys()) - OF_A_PROCESS
    changed = {name for name in names if container.get(name) != environ.get(name)}
    return ChangedByHooks(
        tuple((name, container.get(name)) for name in sorted(changed.intersection(got))),
        tuple(sorted(changed.difference(got))),
    )


def too_large_notes(names: Sequence[str], stack: int | None, host: Host) -> Iterator[Finding]:
    """Say which variables had to be left out, by name."""
    if not names:
        return
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    yield Finding(
        "environment.too_large",
        f"the environment is larger than the {_budget(stack) >> 10} KiB that programs can be "
        f"started with, so these are left out: {', '.join(names[:5])}{more}",
        "notebooks, terminals and logins do not have them",
        "mount large values as files, or raise the limit: "
        + tell(host, "option", "--ulimit stack=67108864"),
    )


def _is_service(service: str, environ: Mapping[str, str]) -> bool:
    host = environ[f"{service}_SERVICE_HOST"]
    port = environ.get(f"{service}_SERVICE_PORT")
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    url = environ.get(f"{service}_PORT", "")
    return service != "KUBERNETES" and url in {f"{kind}://{place}" for kind in _PROTOCOLS}


def named_by_the_user(settings: Settings) -> set[str]:
    """Return what the user named; not PATH, without which no program is found."""
    entries = {*settings.env_exclude, *settings.env_unset}
    patterns = [entry for entry in entries if set(entry) & set("*?[")]
    names = entries - set(patterns)
    if patterns:
        from fnmatch import fnmatchcase  # seldom used, and PID 1 is in a hurry

        names |= {n for n in settings.environ if any(fnmatchcase(n, p) for p in patterns)}
    return names - {"PATH"}


def _budget(stack: int | None) -> int:
    """Return how large the environment may be, in bytes; the rest is for programs' arguments."""
    room = _MOST if stack is None else min(_MOST, max(_LEAST, stack // 4))
    return room * 3 // 4


def _largest(variables: Mapping[str, str], excess: int) -> Iterator[str]:
    """Name the largest, until `excess` bytes are gone; PATH comes last."""
    for variable in sorted(variables.items(), key=lambda item: (item[0] == "PATH", -size(item))):
        if excess <= 0:
            return
        excess -= size(variable)
        yield variable[0]
