"""Decide who the user's programs run as: a table, and what is odd about its answer.  Pure.

The first row that holds:

    an explicit setting      NB_UID, NB_USER and their other names; `docker run --user`
    the workspace's owner    a bind mount belongs to somebody on the host: be that somebody
    the image's own user     where it can write the workspace, or nobody can
    root                     a folder of root's, where only root can write, and that nobody else can
                             have put there; with GRANT_SUDO=no where root is the host's user alone

An `Identity.names` says how the uid comes to have a name, so that sshd, sudo and `ls -l` agree:

    "kept"      passwd(5) has this account as it is
    "written"   its lines in passwd, group and shadow are written at the start
    "wrapped"   by libnss_wrapper, where those files are not ours to write
    "unknown"   it has none
"""

from __future__ import annotations

from collections.abc import Iterable

from launcher.model import run_files
from launcher.model.errors import BadSetting
from launcher.model.host import Account, Host
from launcher.model.plan import EnvVar, Identity
from launcher.settings.table import Settings

IMAGE_USER = "dev"
# What the kernel shows for a uid that has no counterpart in this user namespace:
# kernel.org, admin-guide/sysctl/fs, "overflowgid & overflowuid".
_NOBODY = 65534
# Without these, root cannot become another user, give a file away, or end the user's programs.
BECOME_ANOTHER = ("SETUID", "SETGID", "CHOWN", "KILL")
# Groups whose members become root, or read and write what is root's (Debian's base-passwd,
# users-and-groups).
_POWERFUL = {"root", "sudo", "wheel", "adm", "shadow", "disk", "kmem", "docker", "staff"}
NO_LOGIN = ("nologin", "false", "sync")  # how the shell of a daemon's account ends


def plan_identity(host: Host, settings: Settings) -> Identity:
    """Return who notebooks, terminals, logins and commands run as.

    Raises BadSetting where a machine that is not ours has no such account.
    """
    if host.me.uid != 0:
        found = _started_as(host, settings)
    elif lacking := host.lacks(*BECOME_ANOTHER):
        found = Identity(host.me, f"no other user is possible without {_capabilities(lacking)}")
    else:
        uid, why = _choose(host, settings)
        if host.image:
            account = _account(host, settings, uid)
            of_root = _home_of_root(settings) if host.names_writable else ""
            home = settings.home if account.uid else of_root
            found = _named(host, settings, account._replace(home=home or account.home), why)
        else:
            found = Identity(_account_there(host, settings, uid), why)
    home = settings.home or (_home_of_root(settings) if host.image and found.is_root else "")
    if home:
        found = found._replace(account=found.account._replace(home=home))
    return found._replace(
        sudo=settings.grant_sudo and host.image and host.me.uid == 0 and not found.is_root,
        root_login=settings.grant_sudo or found.is_root,
        umask=settings.umask,
        chown_home=("all" if settings.chown_home_opts else "folder") if settings.chown_home else "",
        chown_extra=settings.chown_extra,
        chown_extra_all=bool(settings.chown_extra_opts),
    )


def _home_of_root(settings: Settings) -> str:
    """Return the home that NB_USER=root has, beside the other users': as in the Docker Stacks."""
    return "/home/root" if settings.user == "root" and "user" in settings.given else ""


def _choose(host: Host, settings: Settings) -> tuple[int, str]:
    """Return the uid, and why this one: the table's rows from top to bottom."""
    if settings.uid is not None:
        return settings.uid, f"{_given(settings, 'uid')}"
    named = host.account_named(settings.user)
    if named and named.name != IMAGE_USER:
        return named.uid, f"NB_USER={named.name}"
    asked = f"NB_USER={settings.user}" if "user" in settings.given else "the workspace user"
    folder = host.workspace
    if folder and folder.uid not in (0, _NOBODY) and (host.image or host.account_of(folder.uid)):
        own = host.account_of(folder.uid)
        if own and own.name == IMAGE_USER:
            return own.uid, asked
        return folder.uid, f"{settings.workspace} belongs to this uid"
    ours = host.account
    if ours is None:
        return 0, "there is no workspace user (NB_USER) here"
    if "user" in settings.given or settings.workspace in settings.chown_extra:
        return ours.uid, asked
    writable = may_write(_with_groups(ours, host), host)
    roots = folder is not None and folder.uid == 0 and not folder.replaceable
    if host.rootless and roots and not writable:
        return 0, f"root here is the user who started the container, who owns {settings.workspace}"
    if writable or not (folder and folder.writable) or not roots or not settings.grant_sudo:
        return ours.uid, asked
    return 0, f"{settings.workspace} is root's, and {ours.name} cannot write there"


def _account_there(host: Host, settings: Settings, uid: int) -> Account:
    """Return the account of a machine that is not ours: as it is, or none."""
    account = host.account_of(uid)
    unknown = "user" in settings.given and host.account_named(settings.user) is None
    if account is None or unknown or settings.gid not in (None, account.gid):
        raise BadSetting(
            f"{_given(settings, 'uid', 'user', 'gid')}: this machine has no such account, and "
            "its accounts are left alone; name one that is in /etc/passwd"
        )
    return account


def _account(host: Host, settings: Settings, uid: int) -> Account:
    """Return the account of this uid: its own, or the image's user under this uid and name."""
    if uid == 0:
        return host.account_of(0) or host.me
    theirs = host.account_of(uid)
    name = settings.user if "user" in settings.given else (theirs or host.account or host.me).name
    known = host.account_named(name) if "user" in settings.given else theirs
    base = known or theirs or host.account
    gid = settings.gid
    if gid is None:
        gid = base.gid if base else uid
        folder = host.workspace
        if theirs is None and folder and folder.uid == uid and folder.gid not in (0, _NOBODY):
            gid = folder.gid
    # A daemon's account becomes one that people can work in.
    for_people = base is not None and not base.shell.endswith(NO_LOGIN)
    home = base.home if base and base.name == name and for_people else f"/home/{name}"
    groups = (gid, *(base.groups if base else ()))
    shell = base.shell if base and for_people else "/bin/bash"
    return _with_groups(Account(name, uid, gid, home, shell, groups), host)


def _with_groups(account: Account, host: Host) -> Account:
    """Return the account with the groups that it gets from image, engine and device nodes."""
    python = () if host.python_gid is None else (host.python_gid,)
    devices = joinable(host.device_groups, host)
    groups = tuple(dict.fromkeys((*account.groups, *python, *host.extra_groups, *devices)))
    return account._replace(groups=groups)


def joinable(gids: Iterable[int], host: Host) -> tuple[int, ...]:
    """Return those groups that give no power beside what they are joined for.

    A number is the host's, and may be another group here: a GPU's node of 27 is sudo's.
    """
    powerful = {gid for name, gid in host.groups if name in _POWERFUL}
    return tuple(gid for gid in gids if gid not in powerful)


def _named(host: Host, settings: Settings, account: Account, why: str) -> Identity:
    """Return the identity with the way in which the account gets its name."""
    group = _group_name(host, settings, account)
    found = Identity(account, why, group=group)
    there = host.account_named(account.name)
    same_group = account.uid == 0 or not host.groups or (group, account.gid) in host.groups
    if host.account_of(account.uid) == account == there and same_group:
        return found
    former = there or (host.account if host.account_of(account.uid) != host.account else None)
    if there is None and host.account and host.account.name == IMAGE_USER:
        former = host.account  # NB_USER renames it, as in the Jupyter Docker Stacks
    if host.names_writable:
        return found._replace(names="written", former=former)
    if there and there._replace(groups=account.groups) == account:
        return found  # only groups are missing: what we start has them, a login has not
    names = "wrapped" if host.nss_wrapper else "unknown"
    return found._replace(names=names, former=former)


def _started_as(host: Host, settings: Settings) -> Identity:
    """Return who `docker run --user` made us: only the name and the home are ours to give.

    Where the image's passwd is another one (`-v /etc/passwd:/etc/passwd:ro`), the name is there and
    neither home nor shell.
    """
    why = "the container was started with this user"
    named = host.me.name != str(host.me.uid)
    if named and (host.me_usable or not host.image or host.nss_wrapper is None):
        return Identity(host.me, why)
    home = host.user_home or f"{settings.run_dir}/home"
    shell = "/bin/bash" if host.image else host.me.shell
    if host.nss_wrapper is None:
        return Identity(host.me._replace(home=home, shell=shell), why, names="unknown")
    name = host.me.name if named else settings.user
    account = host.me._replace(name=name, home=home, shell=shell)
    group = _group_name(host, settings, account)
    return Identity(account, why, names="wrapped", group=group)


def _group_name(host: Host, settings: Settings, account: Account) -> str:
    """Return the name of the account's group; not one that another group here has."""
    known = next((name for name, gid in host.groups if gid == account.gid), None)
    if settings.group or known:
        return settings.group or known or ""
    taken = {name for name, _ in host.groups}
    return f"{account.name}{account.gid}" if account.name in taken else account.name


def takes_workspace(account: Account, host: Host, workspace: str) -> bool:
    """Return whether root gives the workspace to `account` at the start.

    The image's own, which nobody has mounted, and a new volume: what is in them, if anything, is
    nobody's work yet.  Not a folder that belongs to somebody else.
    """
    folder = host.workspace
    if not host.image or host.me.uid != 0 or folder is None or not folder.writable:
        return False
    if account.uid in (0, folder.uid) or host.lacks("CHOWN") or folder.replaceable:
        return False
    nobodys = folder.uid == 0 or (host.account is not None and folder.uid == host.account.uid)
    image_user = next((one.uid for one in host.accounts if one.name == IMAGE_USER), None)
    mounted = any(mount.path == workspace for mount in host.mounts)
    return (nobodys or folder.uid == image_user) and (host.workspace_unused or not mounted)


def may_write(account: Account, host: Host) -> bool:
    """Return whether the mount and the permission bits let `account` create files there."""
    folder = host.workspace
    if folder is None or (account == host.account and account.uid != host.me.uid):
        return host.workspace_writable
    return folder.lets_write(account, host.me)


def name_variables(identity: Identity, host: Host, settings: Settings) -> tuple[EnvVar, ...]:
    """Return what makes programs see a name that is not in /etc/passwd: nss_wrapper(1)."""
    if identity.names != "wrapped" or host.nss_wrapper is None:
        return ()
    theirs = settings.environ.get("LD_PRELOAD", "")
    preload = f"{host.nss_wrapper}:{theirs}" if theirs else host.nss_wrapper
    folder = f"{settings.run_dir}/{run_files.NAMES}"
    why = f"/etc/passwd has no uid {identity.account.uid} and cannot be written"
    return (
        EnvVar("LD_PRELOAD", preload, why),
        EnvVar("NSS_WRAPPER_PASSWD", f"{folder}/passwd", why),
        EnvVar("NSS_WRAPPER_GROUP", f"{folder}/group", why),
    )


def _given(settings: Settings, *fields: str) -> str:
    """Return the settings as the user wrote them: NB_UID=1234."""
    values = {"uid": settings.uid, "gid": settings.gid, "user": settings.user}
    names = [field for field in fields if field in settings.given]
    return ", ".join(f"{settings.given[field]}={values[field]}" for field in names) or "NB_USER"


def _capabilities(names: tuple[str, ...]) -> str:
    return ", ".join(f"CAP_{name}" for name in names)
