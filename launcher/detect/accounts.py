"""Find out who there is, and who could be: accounts, the workspace's owner, what root may do.

Reads only.  Accounts come from the files, not from the C library: a directory service would be
asked over the network, and on the way to the banner.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.model.host import CREATE, READ_WRITE, Account, Folder, Mount, granted
from launcher.paths import walk

# linux/capability.h: the number of each capability that something here depends on.
_CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_CHROOT": 18,
    "NET_BIND_SERVICE": 10, "IPC_LOCK": 14, "AUDIT_WRITE": 29,
}  # fmt: skip
_FILES = ("etc/passwd", "etc/group", "etc/shadow")
_IMAGE_USER = "dev"


def find_account(me: Account, user: str, image: bool) -> Account | None:
    """Return the account of that name, else the image's own; only root can be somebody else."""
    if user == me.name:
        return me
    if me.uid != 0:
        return None
    found = map(account_named, (user, _IMAGE_USER) if image else (user,))
    return next((one for one in found if one), None)


# --- accounts ------------------------------------------------------------------------------


def account_named(name: str) -> Account | None:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    shell = entry.pw_shell or "/bin/sh"
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, shell, groups)


def account_of(uid: int) -> Account:
    """Return the account of `uid`, named by its number where passwd(5) has none."""
    import pwd

    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:  # `docker run --user 1234` without a passwd line
        gid = os.getegid()
        return Account(str(uid), uid, gid, "/tmp", "/bin/sh", tuple(os.getgroups()))
    account = account_named(name)
    assert account is not None
    return account


def read_groups(root: Path) -> list[tuple[str, int, tuple[str, ...]]]:
    """Return name, gid and members of each group."""
    lines = (line.split(":") for line in _lines(root / "etc/group"))
    return [
        (name, int(gid), tuple(members.split(",")))
        for name, _, gid, members in (line for line in lines if len(line) == 4)
        if gid.isdecimal()
    ]


def read_accounts(
    root: Path, groups: Sequence[tuple[str, int, tuple[str, ...]]]
) -> tuple[Account, ...]:
    found = []
    for line in _lines(root / "etc/passwd"):
        name, _, uid, gid, *rest = (*line.split(":"), *[""] * 7)[:7]
        if uid.isdecimal() and gid.isdecimal():
            beside = (number for _, number, members in groups if name in members)
            all_of_them = tuple(dict.fromkeys((int(gid), *beside)))
            shell = rest[2] or "/bin/sh"
            found.append(Account(name, int(uid), int(gid), rest[1], shell, all_of_them))
    return tuple(found)


def names_writable(root: Path) -> bool:
    """Return whether passwd, group and shadow can be replaced: not mounted, not read-only."""
    mounted = {line.split()[4] for line in _lines(root / "proc/self/mountinfo")}
    free = not mounted & {f"/{name}" for name in _FILES}
    return free and os.access(root / "etc", os.W_OK) and os.access(root / _FILES[0], os.W_OK)


def find_nss_wrapper(root: Path) -> str | None:
    found = sorted(root.glob("usr/lib/*/libnss_wrapper.so"))
    return f"/{found[0].relative_to(root)}" if found else None


# The device nodes without which nothing computes: of cards, and of Jetsons.
_GPU_NODES = (
    "nvidia[0-9]*", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap[0-9]*", "nvmap",
    "nvhost-*", "nvgpu/*/*",
)  # fmt: skip


def device_groups(root: Path) -> tuple[int, ...]:
    """Return the groups that may open GPUs' nodes where others may not: mode 0660.

    Such are SUSE's packages of the driver, and every Jetson (NVIDIA/nvidia-docker#657, #1449).
    """
    found: dict[int, None] = {}
    for pattern in _GPU_NODES:
        for node in sorted((root / "dev").glob(pattern)):
            try:
                info = os.stat(node)
            except OSError:  # it has gone, or its link leads nowhere
                continue
            of_group, of_others = info.st_mode >> 3 & READ_WRITE, info.st_mode & READ_WRITE
            if info.st_gid and of_group == READ_WRITE != of_others:
                found[info.st_gid] = None
    return tuple(found)


def extra_groups(me: Account) -> tuple[int, ...]:
    """Return the groups that the engine gave this process, beside the account's own."""
    return tuple(gid for gid in os.getgroups() if gid and gid not in (me.gid, *me.groups))


# --- folders -------------------------------------------------------------------------------


def folder(path: str) -> Folder | None:
    """Return a folder; None where there is none, or where only a link of others' leads to it.

    Whom it belongs to decides who people are: so nobody may stand in for it.
    """
    try:
        with walk.place(f"{path}/.") as where:
            info = os.fstat(where.folder)
            where.check(info)
            replaceable = walk.weakness(os.path.dirname(path)) is not None
    except OSError:
        return None
    writable, mode = os.access(path, os.W_OK | os.X_OK), info.st_mode & 0o7777
    return Folder(info.st_uid, info.st_gid, mode, writable, replaceable, _is_read_only(path))


def _is_read_only(path: str) -> bool:
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:  # what only its owner may enter
        return False


def is_unused(path: str, mounted: Sequence[Mount]) -> bool:
    """Return whether `path` is a mount with nothing in it; a new file system has a lost+found."""
    if not any(mount.path == path for mount in mounted):
        return False
    try:
        return set(os.listdir(path)) <= {"lost+found"}
    except OSError:
        return False


def writable_by(account: Account, path: str) -> bool:
    """Return whether the mount and the permission bits let `account` create files in `path`."""
    if account.uid in (0, os.geteuid()):
        return os.access(path, os.W_OK | os.X_OK)
    found = folder(path)
    if found is None or found.read_only:
        return False
    return granted(found.mode, found.uid, found.gid, account) & CREATE == CREATE


def is_usable(account: Account) -> bool:
    """Return whether an account's home is there, and its shell: `-v /etc/passwd:/etc/passwd` alone
    brings the names of the host, and neither."""
    return os.path.isdir(account.home) and os.access(account.shell, os.X_OK)


def writable_home(environ: Mapping[str, str]) -> str | None:
    """Return a home for a uid without a name: HOME as it was set, else the image user's.

    One that was set need not be there yet: it is made (`box.home`).  Docker sets HOME=/ where
    passwd has none.
    """
    wanted = environ.get("HOME", "")
    if os.path.isabs(wanted) and wanted.strip("/") and _is_writable(_nearest(wanted)):
        return wanted
    image_user = account_named(_IMAGE_USER)
    return image_user.home if image_user and _is_writable(image_user.home) else None


def _nearest(path: str) -> str:
    """Return what is there of an absolute path: itself, or the nearest folder above it."""
    while not os.path.lexists(path):
        path = os.path.dirname(path)
    return path


def _is_writable(path: str) -> bool:
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)


def group_of_python(python: str) -> int | None:
    """Return the group that may write the environment of this interpreter; never root's."""
    prefix = folder(os.path.dirname(os.path.dirname(python)))
    return prefix.gid if prefix and prefix.gid and prefix.mode & 0o020 else None


def first_open_port(root: Path) -> int:
    """Return from which port on everybody may listen: ip_sysctl, ip_unprivileged_port_start."""
    lines = _lines(root / "proc/sys/net/ipv4/ip_unprivileged_port_start")
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else 1024


# --- this process --------------------------------------------------------------------------


def read_status(root: Path) -> dict[str, str]:
    """Return /proc/self/status, proc_pid_status(5)."""
    fields = (line.partition(":") for line in _lines(root / "proc/self/status"))
    return {name: value.strip() for name, _, value in fields}


def effective_capabilities(status: Mapping[str, str]) -> frozenset[str] | None:
    try:
        mask = int(status["CapEff"], 16)
    except (KeyError, ValueError):
        return None
    return frozenset(name for name, number in _CAPABILITIES.items() if mask >> number & 1)


def is_rootless(root: Path) -> bool:
    """Return whether root here is another uid outside: user_namespaces(7), "uid_map"."""
    lines = _lines(root / "proc/self/uid_map")
    return bool(lines) and lines[0].split()[:2] not in (["0", "0"], [])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
