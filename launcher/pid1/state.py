"""The account and what outlives a restart, made real: in a child, while PID 1 imports and plans."""

from __future__ import annotations

import contextlib
import os
import signal

from launcher.box import home, ownership
from launcher.box import state as box_state
from launcher.model.host import Host
from launcher.model.plan import Identity, State
from launcher.plan.identity import name_variables, takes_workspace
from launcher.process import become
from launcher.process.pump import Pump
from launcher.settings import environ, packages
from launcher.settings.table import Settings


def become_able_to_run_programs() -> None:
    """Let root find ssh-keygen and chpasswd where only root can put them.

    The container's PATH starts with the user's environment, which the user writes to.  A program
    that ends before it has read its input is an error to handle, not our end.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    if os.geteuid() == 0:
        environ.replace({"PATH": become.launcher_path()})


def speaker(fd: int) -> ownership.Say:
    """Return what says a line at once: giving a large folder away takes minutes."""
    out = Pump(fd)

    def say(line: str) -> None:
        out.say(f"launcher: {line}")
        out.flush(timeout=0.3)

    return say


def open_state(settings: Settings, host: Host, who: Identity, mend: bool = True) -> State:
    """Make the account real, and return what outlives a restart.

    Args:
        mend: False while a box runs by it.
    """
    become_able_to_run_programs()
    found = home.Found(None, None)
    if host.image:
        home.write_names(who, settings.run_dir)
        names = {var.name: var.value for var in name_variables(who, host, settings)}
        if os.geteuid() != 0:  # without a name ssh-keygen refuses to do anything
            environ.replace({**environ.own(), **names})
        if takes_workspace(who.account, host, settings.workspace):
            with contextlib.suppress(OSError):
                home.give_workspace(who, settings.workspace)
        say = speaker(1)
        if mend:
            ownership.give_extra(who, say)
        found = home.make_home(
            who if mend else who._replace(chown_home=""), settings.workspace, say
        )
    own_key = not host.image
    state = box_state.open_state(settings.state_dir, settings.key_lines, own_key, mend)
    state = state._replace(**found._asdict())
    if folder := packages.folder(settings, host.python_version):
        from launcher.box.packages import provide  # in this child, and where it is asked for

        provided = provide(folder, settings.python, who.account)
        said = (*state.remarks, *provided.remarks)
        state = state._replace(packages_fault=provided.fault, remarks=said)
    if not settings.https:
        return state
    from launcher.box import certificate  # in this child, and where https is asked for

    made, remarks = certificate.provide(settings, mend)
    return state._replace(certificate=made, remarks=(*state.remarks, *remarks))
