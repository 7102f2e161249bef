"""What is not as it should be, for the banner: what, what it means, what mends it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.checks.facts.how_to_run import fit, is_rented, set_to_own, tell
from launcher.model.host import Account, Host
from launcher.model.plan import Finding, Identity, Ssh, State
from launcher.plan.caches import lasts, mount_of
from launcher.plan.identity import BECOME_ANOTHER
from launcher.plan.key_notes import key_notes, own_key_notes
from launcher.plan.noexec import noexec_notes
from launcher.plan.outset import Outset
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
        *_workspace_notes(host, settings, identity.account, writable, services=state is not None),
        *shortcomings(host, settings, identity, ssh, state.home_fault if state else None),
        *noexec_notes(host, identity.account, settings.workspace),
        *_state_notes(host, settings, state),
        *_environment_notes(settings, identity),
        *key_notes(ssh),
        *own_key_notes(host, identity.account, ssh, state),
    )
    return tuple(note._replace(fix=fit(note.fix, host)) for note in notes)


def _workspace_notes(
    host: Host, settings: Settings, user: Account, writable: bool, *, services: bool
) -> Iterator[Finding]:
    path = settings.workspace
    if host.workspace_missing:
        yield Finding(
            "workspace.missing",
            f"{path} does not exist",
            "Jupyter opens in the home directory",
            f"mount one: {tell(host, 'mount', f'$PWD:{path}')}",
        )
    elif not writable and _is_read_only(host, path):
        yield Finding(
            "workspace.readonly",
            f"{path} is mounted read-only",
            "notebooks cannot be saved there",
            f"mount it to be written, without :ro: {tell(host, 'mount', f'DIRECTORY:{path}')}",
        )
    elif not writable:
        yield Finding(
            "workspace.readonly",
            f"{user.name} (uid {user.uid}) cannot write {path}",
            "notebooks cannot be saved there",
            f"in it, as root: chown -R {user.uid} {path}"
            if is_rented(host)
            else f"mount one: {tell(host, 'mount', f'$PWD:{path}')}"
            if host.image and not _is_mounted(host, path)
            else f"on the host: sudo chown -R {user.uid} DIRECTORY, the one that is mounted there",
        )

    elif services and host.image and not lasts(host.mounts, path):
        other = [one for one in host.volumes if not _is_ours(one, settings, user)]
        mount = tell(host, "mount", f"$PWD:{path}")
        if other:
            yield Finding(
                "workspace.other_volume",
                f"a volume is mounted on {other[0]}, which nothing here opens",
                f"notebooks are saved in {path}, which ends with the container",
                f"mount it there: {mount}; or {tell(host, 'setting', f'WORKSPACE={other[0]}')}",
            )
        else:
            yield Finding(
                "workspace.not_kept",
                f"{path} is no volume",
                "what is saved there ends with the container",
                f"to keep it: {mount}",
            )


def _is_mounted(host: Host, path: str) -> bool:
    return any(mount.path == path for mount in host.mounts)


def _is_read_only(host: Host, path: str) -> bool:
    """Return whether a volume refuses everybody, whoever owns what is in it."""
    mount = mount_of(host.mounts, path)
    return mount is not None and mount.path != "/" and not mount.writable


def _is_ours(path: str, settings: Settings, user: Account) -> bool:
    """Return whether something of ours opens a volume."""
    places = (user.home, settings.state_dir, settings.run_dir)
    return any(f"{path}/".startswith(f"{place}/") for place in places)


def _state_notes(host: Host, settings: Settings, state: State | None) -> Iterator[Finding]:
    if state and state.weakness:
        yield Finding(
            "state.of_others",
            f"the state directory is not root's alone: {state.weakness}",
            "who can write there chooses the box's token, password and host key, and who logs in",
            f"a volume: {tell(host, 'mount', f'launcher-state:{settings.state_dir}')}, or on the "
            "host: sudo chown root DIRECTORY; sudo chmod 700 DIRECTORY",
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
            f"{_as_a_root(host)}, or on the host: sudo chown",
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
            yield _workspace_of_root(host, path, host.account)
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


def _workspace_of_root(host: Host, path: str, user: Account) -> Finding:
    if is_rented(host):  # their volumes are root's, and nobody who is here mounted them
        so = "so everything runs as root, as in the platform's own images"
        fix = (
            f"none needed; to be {user.name} instead: chown -R {user.uid} {path} in here, then "
            f"{tell(host, 'anew')}"
        )
    else:
        so = "so everything runs as root, and its files are root's on the host"
        fix = (
            "is the path that is mounted mistyped? An engine makes what is not there; else "
            f"{set_to_own(host, 'NB_UID', 'id -u', 'YOUR UID')}, or on the host: "
            f"sudo chown {user.uid} DIRECTORY"
        )
    what = f"{path} belongs to root, and {user.name} cannot write there"
    return Finding("identity.root", what, so, fix)


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
        yield Finding(
            "home.not_kept",
            f"uid {me.uid} has no home directory that it can write",
            f"HOME is {identity.account.home}, which ends with the container",
            f"set one on a volume: {tell(host, 'setting', 'HOME=/workspace/home')}",
        )
    readonly = host.python_gid is not None and host.python_gid not in (me.gid, *me.groups)
    if readonly and settings.packages == "image":
        yield Finding(
            "python.readonly",
            f"uid {me.uid} cannot write {settings.python.rpartition('/bin/')[0]}",
            "pip install fails",
            f"{tell(host, 'group', host.python_gid)}, or LAUNCHER_PACKAGES=workspace",
        )


def _as_a_root(host: Host) -> str:
    """Return how to be a root that may give files away."""
    return tell(host, "uid", 0) if host.me.uid else tell(host, "option", "--cap-add CHOWN")


def _named(capabilities: tuple[str, ...]) -> str:
    return ", ".join(f"CAP_{name}" for name in capabilities)


def _options(capabilities: tuple[str, ...]) -> str:
    return " ".join(f"--cap-add {name}" for name in capabilities)
