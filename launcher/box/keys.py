"""`launcher keys`: let somebody into a running box, or keep somebody out, without a restart.

sshd reads its file of keys at each login, so a change counts at once; the state directory has
what was added, so it counts after a restart too.  Both are root's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from launcher.box import files, privilege, run_dir, ssh_keys, state
from launcher.box.kept import take_turn
from launcher.box.state import ADDED
from launcher.model.errors import BadSetting
from launcher.model.plan import KeyLine, Plan
from launcher.model.public_key import PRIVATE_KEY, parts
from launcher.paths.folder import Folder
from launcher.render.sshd import authorized_keys
from launcher.settings.key_sources import split

USAGE = """\
usage: launcher keys list                 who may log in, and which source says so
       launcher keys add KEY              one more: the line of a .pub file
       launcher keys add < FILE           all keys of a file
       launcher keys remove FINGERPRINT   one that was added here: SHA256:…, or its comment"""


def run_keys_command(arguments: Sequence[str], read_stdin: Callable[[], str]) -> str:
    """Carry out one of the commands; return what to print.

    Raises BadSetting that says what is wrong, where nothing is changed.
    """
    words = list(arguments)
    command = words.pop(0) if words else ""
    if command not in ("list", "add", "remove") or (command == "list" and words):
        raise BadSetting(USAGE)
    if command == "remove" and not words:
        raise BadSetting(USAGE)
    plan = run_dir.read_plan()
    if plan is None:
        raise BadSetting(f"no box runs here that keys could be for{privilege.of_another()}")
    text = " ".join(words)
    if command == "add" and text in ("", "-"):
        text = read_stdin()  # it may take its time: nobody is to wait for it
    with _alone(plan.paths.state):
        if command == "list":
            return _list(plan)
        return _remove(plan, text) if command == "remove" else _add(plan, text)


def _list(plan: Plan) -> str:
    lines = [_described(key) for key in (*_of_the_start(plan), *_added(plan))]
    own = "and the keys in ~/.ssh/authorized_keys of each user"
    return "\n".join([*(lines or ["no key"]), own])


def _add(plan: Plan, text: str) -> str:
    new = ssh_keys.judge_keys(list(split(ADDED, text)))
    if not new:
        raise BadSetting(f"no key is given\n{USAGE}")
    for key in new:
        if key.fault:
            private = key.fault == PRIVATE_KEY
            hint = "its public half is in the .pub file" if private else "nothing is added"
            raise BadSetting(f"cannot add line {key.number}: {key.fault}; {hint}")
    before = _added(plan)
    known = {_identity(key) for key in (*_of_the_start(plan), *before)}
    added = [key for key in new if _identity(key) not in known]
    if added:
        _keep(plan, (*before, *added))
    return "\n".join(
        f"{'added' if key in added else 'here already:'} {_described(key)}" for key in new
    )


def _remove(plan: Plan, wanted: str) -> str:
    before = _added(plan)
    gone = [key for key in before if _is_meant(key, wanted)]
    elsewhere = [key for key in _of_the_start(plan) if _is_meant(key, wanted)]
    if elsewhere and not gone:
        raise BadSetting(
            f"cannot remove it: this key comes from {elsewhere[0].source}; take it out there, "
            "then: on the host: docker restart …; where it is a file, a HUP to the box is enough "
            "(docker kill -s HUP …)"
        )
    if not gone:
        raise BadSetting(f"cannot remove {wanted[:80]!r}: there is no such key; launcher keys list")
    _keep(plan, [key for key in before if key not in gone])
    still = [f"still let in by {key.source}: {_described(key)}" for key in elsewhere]
    return "\n".join([*(f"removed {_described(key)}" for key in gone), *still])


def _keep(plan: Plan, added: Sequence[KeyLine]) -> None:
    """Write what was added to the state directory, and everything to where sshd reads it."""
    state.keep_added_keys(plan.paths.state, added)
    if plan.ssh:
        files.write([authorized_keys(plan, (*_of_the_start(plan), *added))])


def _of_the_start(plan: Plan) -> tuple[KeyLine, ...]:
    """Return the keys of the sources, as they were at the last start or reload."""
    return tuple(key for key in (plan.ssh.keys if plan.ssh else ()) if key.source != ADDED)


def _added(plan: Plan) -> tuple[KeyLine, ...]:
    return ssh_keys.judge_keys(list(state.added_keys(plan.paths.state)))


def _identity(key: KeyLine) -> tuple[str, str]:
    return parts(key.text).options, key.fingerprint or key.text


def _is_meant(key: KeyLine, wanted: str) -> bool:
    return wanted in (key.fingerprint, parts(key.text).comment, key.text)


def _described(key: KeyLine) -> str:
    if key.fault:
        return f"{key.source} line {key.number}: {key.fault}"
    _, kind, _, comment = parts(key.text)
    who = comment if comment.isprintable() else repr(comment)
    return "  ".join(filter(None, (key.fingerprint, kind, who, f"({key.source})")))


@contextlib.contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Keep a second `launcher keys` waiting, lest it undo what this one does."""
    with Folder(directory) as folder:
        take_turn(folder)
        yield
