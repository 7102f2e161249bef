"""What is not as it should be, for the banner: what, what it means, what mends it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.how_to_run import fit, is_rented, tell
from launcher.model.host import Host
from launcher.model.plan import Finding, Identity, Ssh, State
from launcher.plan.caches import lasts, mount_of
from launcher.plan.identity import BECOME_ANOTHER
from launcher.plan.key_notes import key_notes, own_key_notes
from launcher.plan.noexec import noexec_notes
from launcher.plan.outset import Outset
from launcher.plan.volume_notes import state_notes, workspace_notes, workspace_of_root
from launcher.settings.table import Settings


def plan_notes(
    outset: Outset, ssh: Ssh | None, writable: bool, state: State | None = None
) -> tuple[Finding, ...]:
    """Return everything the user should know, most important first.

    Args:
        writable: the workspace, by the user.
    """
    host, settings, identity = outset.machine.host, outset.settings, outset.identity
    verdict = outset.verdict
    notes = (
        *([verdict.failure] if verdict.failure else []),
        *verdict.warnings,
        *_network_notes(host, ssh, services=state is not None),
        *workspace_notes(host, settings, identity.account, writable, services=state is not None),
        *shortcomings(host, settings, identity, ssh, state.home_fault if state else None),
        *noexec_notes(host, identity.account, settings.workspace),
        *state_notes(host, settings, state),
        *_environment_notes(settings, identity),
        *key_notes(ssh),
        *own_key_notes(host, identity.account, ssh, state),
    )
    return tuple(note._replace(fix=fit(note.fix, host)) for note in notes)


def _network_notes(host: Host, ssh: Ssh | None, *, services: bool) -> Iterator[Finding]:
    if services and host.no_network:
        yield Finding(
            "network.none",
            "this container has no network (--network none)",
            f"nobody outside reaches Jupyter{' or SSH' if ssh else ''}, and nothing is downloaded",
            "leave out --network none; or come in from the host (docker exec -it … launcher exec "
            "-- bash)",
        )


# By these a program loads what lies in a folder, whatever it is (ld.so(8)).
_LOADED_BY = ("LD_LIBRARY_PATH", "LD_PRELOAD", "LD_AUDIT")


def _environment_notes(settings: Settings, identity: Identity) -> Iterator[Finding]:
    """Where the user is not root anyway."""
    names = [name for name in _LOADED_BY if name in settings.set_aside]
    if names and not identity.sudo and not identity.is_root:
        yield Finding(
            "environment.of_others",
            f"{', '.join(names)}: a place that others than root can change",
            "root's programs here do without it, notebooks and logins have it; a root shell would "
            "load what lies there",
            "come in by launcher … and by no root shell, or name folders of root's alone",
        )


# Without these sshd lets nobody in: it drops to the user, and shuts its network half in a chroot.
LOGIN = ("SETUID", "SETGID", "SYS_CHROOT")
# Without these a login has no terminal (sshd hands it over, and writes an audit record).
TERMINAL = ("CHOWN", "AUDIT_WRITE")
_ALL = tuple(dict.fromkeys((*BECOME_ANOTHER, *LOGIN, *TERMINAL)))


def shortcomings(
    host: Host, settings: Settings, identity: Identity, ssh: Ssh | None, home_fault: str | None
) -> Iterator[Finding]:
    """Yield what follows from who the container was started as, most important first."""
    if host.me.uid == 0:
        yield from _as_root(host, settings, identity, ssh)
    else:
        yield from _without_root(host, settings, identity)
    wanted = {"chown_home": settings.chown_home, "chown_extra": settings.chown_extra}
    asked = [settings.given[field] for field, on in wanted.items() if on]
    if asked and (host.me.uid != 0 or host.lacks("CHOWN")):
        yield Finding(
            "identity.cannot_give",
            f"{', '.join(asked)}: only root, with CAP_CHOWN, can give files away",
            "they stay whose they are",
            _as_a_root(host) + ("" if is_rented(host) else ", or on the host: sudo chown"),
        )
    if home_fault:
        home = identity.account.home
        mount = f"mount a volume there: {tell(host, 'mount', f'home:{home}')}"
        give = f"; or give that one away: {tell(host, 'setting', 'CHOWN_HOME=yes')}"
        on = mount_of(host.mounts, home)
        helps = host.me.uid == 0 and not host.lacks("CHOWN") and (on is None or on.writable)
        yield Finding(
            "home.not_writable",
            f"{identity.account.name} cannot write {home}: {home_fault}",
            "settings, histories and caches of programs are not kept",
            mount + (give if helps and not settings.chown_home else ""),
        )


def _as_root(
    host: Host, settings: Settings, identity: Identity, ssh: Ssh | None
) -> Iterator[Finding]:
    path = settings.workspace
    if lacking := host.lacks(*BECOME_ANOTHER):
        yield Finding(
            "identity.capabilities",
            f"root may not become another user here: no {_named(lacking)}",
            "notebooks run as root, without its powers" + ("" if ssh else ", and SSH is off"),
            f"{tell(host, 'option', _options(host.lacks(*_ALL)))} or {tell(host, 'uid', 1000)}",
        )
    elif identity.is_root and "user" not in settings.given and "uid" not in settings.given:
        folder = host.workspace
        if folder and folder.uid == 0 and host.account and not host.rootless:
            yield workspace_of_root(host, path, host.account)
    if ssh and (lacking := host.lacks(*TERMINAL)):
        yield Finding(
            "ssh.no_terminal",
            f"no {_named(lacking)}",
            "ssh HOST COMMAND and sftp work, a login with a terminal does not",
            tell(host, "option", _options(lacking)),
        )
    if identity.sudo and host.no_new_privileges:
        yield Finding(
            "sudo.no_new_privileges",
            "the container was started with no-new-privileges",
            "sudo does not work",
            tell(host, "privileges"),
        )
    if identity.names in ("wrapped", "unknown"):
        yield Finding(
            "identity.names_not_written",
            f"/etc/passwd cannot be written, so uid {identity.account.uid} is not in it",
            "its name comes from libnss_wrapper, and sudo, which ignores that, does not work",
            f"{tell(host, 'writable_root')}, or mount the workspace of a user who is in it (1000)",
        )


def _without_root(host: Host, settings: Settings, identity: Identity) -> Iterator[Finding]:
    me = host.me
    ids = ((settings.uid, me.uid, "uid"), (settings.gid, me.gid, "gid"))
    other = [settings.given[name] for given, own, name in ids if given not in (None, own)]
    if "user" in settings.given and settings.user != identity.account.name:
        other.append(settings.given["user"])
    if other:
        yield Finding(
            "identity.fixed",
            f"{', '.join(other)}: only root can become somebody else",
            f"everything runs as uid {me.uid}, gid {me.gid}",
            f"{tell(host, 'uid', 0)}, or as this uid",
        )
    if identity.names == "unknown":
        yield Finding(
            "identity.nameless",
            f"uid {me.uid} has no name, and libnss_wrapper is not installed",
            "SSH is off, and programs that ask who they are fail",
            "apt-get install libnss-wrapper in the image",
        )
    if settings.state_dir.startswith(f"{settings.run_dir}/"):
        yield Finding(
            "state.not_kept",
            f"uid {me.uid} cannot write /var/lib/launcher",
            "the host key is new at every start"
            if settings.jupyter_token or settings.jupyter_auth == "proxy"
            else "the token and the host key are new at every start",
            f"mount a folder of uid {me.uid}: {tell(host, 'mount', 'DIRECTORY:/state')}; and name "
            f"it: {tell(host, 'setting', 'LAUNCHER_STATE_DIR=/state')}",
        )
    if identity.account.home == f"{settings.run_dir}/home":
        work = settings.workspace
        volume = f"mount a folder of uid {me.uid}: {tell(host, 'mount', f'DIRECTORY:{work}')}; and "
        yield Finding(
            "home.not_kept",
            f"uid {me.uid} has no home directory that it can write",
            f"HOME is {identity.account.home}, which ends with the container",
            ("" if lasts(host.mounts, work) else volume)
            + f"set one on a volume: {tell(host, 'setting', f'HOME={work}/home')}",
        )
    readonly = host.python_gid is not None and host.python_gid not in (me.gid, *me.groups)
    if readonly and settings.packages == "image":
        root = mount_of(host.mounts, settings.python)
        fixed = root is not None and not root.writable  # docker run --read-only: for every group
        yield Finding(
            "python.readonly",
            f"uid {me.uid} cannot write {settings.python.rpartition('/bin/')[0]}",
            "pip install fails",
            ("" if fixed else f"{tell(host, 'group', host.python_gid)}, or ")
            + tell(host, "setting", "LAUNCHER_PACKAGES=workspace"),
        )


def _as_a_root(host: Host) -> str:
    """Return how to be a root that may give files away."""
    return tell(host, "uid", 0) if host.me.uid else tell(host, "option", "--cap-add CHOWN")


def _named(capabilities: tuple[str, ...]) -> str:
    return ", ".join(f"CAP_{name}" for name in capabilities)


def _options(capabilities: tuple[str, ...]) -> str:
    return " ".join(f"--cap-add {name}" for name in capabilities)
