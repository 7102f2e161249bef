"""The programs that people drop into /etc/launcher/supervisor.d, checked before supervisor starts.

supervisor takes every section of an included file: one more [inet_http_server] would open a door.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from configparser import Error, RawConfigParser

from launcher.model.errors import BadSetting, reason
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Supervision
from launcher.model.services import GROUP, SERVICES, service_of

FOLDER = "/etc/launcher/supervisor.d"
_KINDS = ("program", "group")
_ACCEPTED = " and ".join(f"[{kind}:NAME]" for kind in _KINDS)
# Kinds of supervisor's that are none of ours, and what does the same.
_INSTEAD = {
    "eventlistener": "a [program:NAME] that asks `launcher status --json`",
    "fcgi-program": "a [program:NAME] that opens its socket itself",
}
_OURS = (GROUP, "jupyter", "post_start", "ssh", "sshd", "watch")


class DropIn(NamedTuple):
    """One section of a file."""

    name: str  # what is right of the colon
    section: str
    file: str
    programs: tuple[str, ...] = ()  # of a group


def check_drop_ins(supervision: Supervision, folder: str = FOLDER) -> None:
    """Raise BadSetting where something of it cannot be used.

    For a section that is not a program's or that has a name of ours, for a file
    that cannot be read, and where a setting names a program that is not there.
    """
    if supervision.safe_mode:
        return
    there = read_drop_ins(folder)
    for drop_in in there:
        _refuse_ours(drop_in)
    known = (*SERVICES, *dict.fromkeys(drop_in.name for drop_in in there))
    _refuse_unknown("LAUNCHER_SERVICES", supervision.programs or (), known, folder)
    required = [service_of(name) for name in supervision.required]
    _refuse_unknown("LAUNCHER_REQUIRED_SERVICES", required, known, folder)


def read_drop_ins(folder: str = FOLDER) -> tuple[DropIn, ...]:
    """Return every section of every file, in supervisor's order.

    Raises BadSetting, naming the file, where one cannot be read or has a section of another kind.
    """
    return tuple(
        drop_in
        for path in sorted(glob.glob(f"{glob.escape(folder)}/*.conf"))
        for drop_in in _sections(path)
    )


def pattern(supervision: Supervision, folder: str = FOLDER) -> str:
    """Return what supervisor is to include: nothing in safe mode."""
    return "" if supervision.safe_mode else f"{folder}/*.conf"


def command_for_the_user(argv: Sequence[str]) -> list[str] | None:
    """Return CMD of `launcher exec -- CMD`; None for every other command."""
    asked = bool(argv) and argv[0].rpartition("/")[2] == "launcher"
    return list(argv[3:]) or None if asked and list(argv[1:3]) == ["exec", "--"] else None


def _sections(path: str) -> list[DropIn]:
    parser = _parse(path)
    found = []
    for section in [*(["DEFAULT"] if parser.defaults() else []), *parser.sections()]:
        kind, colon, name = section.partition(":")
        if kind not in _KINDS or not colon or not name.strip():
            mend = f"Use {_INSTEAD[kind]} instead" if kind in _INSTEAD else "Remove it"
            raise BadSetting(
                f"{path}: [{section}] is not accepted there, so nothing is started. "
                f"{mend}; accepted are {_ACCEPTED}"
            )
        members = parser.get(section, "programs", fallback="") if kind == "group" else ""
        programs = tuple(part.strip() for part in members.split(",") if part.strip())
        found.append(DropIn(name.strip(), section, path, programs))
    return found


def _parse(path: str) -> RawConfigParser:
    """Read a file as supervisor's UnhosedConfigParser will."""
    parser = RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        with open(path, encoding="utf-8") as stream:
            parser.read_file(stream)
    except (OSError, Error, UnicodeDecodeError) as err:
        why = reason(err) if isinstance(err, OSError) else " ".join(str(err).split())
        raise BadSetting(f"cannot read {path}: {why}") from err
    return parser


def _refuse_ours(drop_in: DropIn) -> None:
    taken = [name for name in (drop_in.name, *drop_in.programs) if name in _OURS]
    if taken:
        raise BadSetting(
            f"{drop_in.file}: [{drop_in.section}] uses the name {taken[0]}, which is the "
            f"launcher's own, so nothing is started. Use another; taken are {', '.join(_OURS)}"
        )


def _refuse_unknown(setting: str, named: Iterable[str], known: Iterable[str], folder: str) -> None:
    for name in named:
        if name not in known:
            raise BadSetting(
                f"{setting} names {name}, which is no service here: there are {', '.join(known)}. "
                f"Remove it, or add the program as {folder}/{name}.conf"
            )
