"""The lines of passwd(5), group(5) and shadow(5) that make an account known.  Pure.

Of two lines with one uid the C library answers with the first, so a new one goes before it.
"""

from __future__ import annotations

from launcher.model.host import Account
from launcher.model.plan import Identity


def passwd_text(text: str, identity: Identity) -> str:
    """Return passwd(5) with the account, in place of the one that it takes over from."""
    account = identity.account
    fields = [line.split(":") for line in text.splitlines() if line.startswith(f"{account.name}:")]
    comment = fields[0][4] if fields and len(fields[0]) == 7 else ""
    line = f"{account.name}:x:{account.uid}:{account.gid}:{comment}:{account.home}:{account.shell}"
    return _with_line(text, line, 2, str(account.uid), _old_names(identity))


def shadow_text(text: str, identity: Identity) -> str:
    """Return shadow(5) with the account: no password ("*"), and not locked ("!").

    sshd without PAM refuses a locked account even with a good key (auth.c).  The password of the
    account that it takes over from is kept.
    """
    kept = [line for line in text.splitlines() if line.partition(":")[0] in _old_names(identity)]
    rest = kept[0].partition(":")[2] if kept else "*::0:99999:7:::"
    return _with_line(text, f"{identity.account.name}:{rest}", 0, "", _old_names(identity))


def group_text(text: str, identity: Identity) -> str:
    """Return group(5) with the account's group, and the account as a member of its others."""
    account = identity.account
    members = ""
    lines = []
    unnamed = dict.fromkeys(gid for gid in account.groups if gid != account.gid)
    for line in text.splitlines():
        name, *rest = line.split(":")
        if len(rest) != 3 or not rest[1].isdecimal():
            lines.append(line)
            continue
        people = [one for one in rest[2].split(",") if one and one not in _old_names(identity)]
        if int(rest[1]) in account.groups and int(rest[1]) != account.gid:
            people.append(account.name)
            unnamed.pop(int(rest[1]), None)
        lines.append(":".join((name, rest[0], rest[1], ",".join(people))))
        if name == identity.group and rest[1] == str(account.gid):
            members = ",".join(people)
    lines += [f"group{gid}:x:{gid}:{account.name}" for gid in unnamed]
    line = f"{identity.group}:x:{account.gid}:{members}"
    return _with_line("\n".join(lines), line, 2, str(account.gid), {identity.group})


def _old_names(identity: Identity) -> set[str]:
    former: Account | None = identity.former
    return {identity.account.name} | ({former.name} if former and former.uid != 0 else set())


def _with_line(text: str, line: str, field: int, value: str, replaced: set[str]) -> str:
    """Return the text without the lines named `replaced`, and with `line` before its equals.

    Where it has none it takes the place of its own name.
    """
    old = text.splitlines()
    names = [line.partition(":")[0] for line in old]
    lines = [line for line, name in zip(old, names, strict=True) if name not in replaced]
    columns = [[*line.split(":"), *[""] * 3] for line in lines]
    own = line.partition(":")[0]
    before = names[: names.index(own)] if own in names else names
    usual = sum(name not in replaced for name in before)
    place = next((i for i, row in enumerate(columns) if value and row[field] == value), usual)
    return "\n".join([*lines[:place], line, *lines[place:], ""])
