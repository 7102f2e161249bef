"""The order of things: detect → plan → render → run.  What PID 1 does first, and what it ends with.

What takes time starts before anything else is even imported: the driver is asked in one child,
supervisor imported in another, and the state directory opened in a third.  `start` goes on there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.detect import driver
from launcher.model.errors import BadSetting, LauncherError, Stopped, reason
from launcher.pid1.supervisor import Supervisor
from launcher.process.init import Init
from launcher.process.pump import Pump
from launcher.settings import environ
from launcher.settings.meant import SERVICES, Meant, understand

if TYPE_CHECKING:
    from launcher.model.plan import Plan
    from launcher.settings.table import Settings


def be_the_box(argv: Sequence[str], started: float) -> int:
    """Be the box: services without arguments, else that command.  Returns the exit status.

    Some commands mean the services, too (`meant`).
    """
    provide_standard_streams()
    meant = _understand(argv)
    here = _folder()
    environ.take_folder(here)
    if meant.services:
        os.chdir("/")  # the workspace is a mount that may go away, or be taken away
    out = Pump(1 if meant.services else 2)
    box = Init(out, _for_this_place)
    try:
        asked = driver.ask(box)
        if not meant.services:
            from launcher.pid1 import start  # while the child works

            return start.command(box, asked, list(meant.command), started)
        supervisor = Supervisor(box)
        from launcher.pid1.begin import begin

        begun = begin(box)
        from launcher.pid1 import start  # while three children work
        from launcher.pid1.beside import Beside

        children = start.Children(asked, supervisor, begun)
        return start.services(box, children, started, Beside(meant.command, here or "/"))
    except Stopped as stop:
        return 0 if meant.services else 128 + stop.number
    except LauncherError as err:
        for line in _for_this_place(str(err)).splitlines():
            out.say(f"launcher: {line}")
        return err.exit_code
    except OSError as err:
        out.say(f"launcher: cannot start: {_for_this_place(reason(err))}")
        return BadSetting.exit_code
    finally:
        box.end_stragglers()
        out.flush(timeout=0.5)


def _folder() -> str:
    """Return where we were started; "" where that folder is gone."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _for_this_place(message: str) -> str:
    from launcher.detect import detect
    from launcher.text import text

    return text.for_place(message, detect.whereabouts(environ.own()))


def _understand(argv: Sequence[str]) -> Meant:
    """Return what the command means; its options of Jupyter's are a setting from here on."""
    if list(argv) in ([], [SERVICES]):
        return Meant(())  # the usual one: no time is lost before the children start
    meant = understand(argv, environ.own())
    if meant.options:
        environ.take_options(meant.name, meant.options)
    return meant


def provide_standard_streams() -> None:
    """Open /dev/null as each of the descriptors 0 to 2 that we were started without.

    Else the next file to be opened would become somebody's standard output.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            os.set_inheritable(fd, True)


def preview_plan(settings: Settings) -> Plan:
    """Return what a start would do here; the secrets in it are made up."""
    from launcher.model.plan import Certificate, Secret, State
    from launcher.plan.outset import set_out
    from launcher.plan.plan import make_plan

    machine = driver.detect_machine(settings)
    made_up = Secret("made-at-the-start")
    certificate = Certificate("", made_up, self_signed=settings.tls_cert is None)
    state = State(made_up, made_up, None, certificate=certificate if settings.https else None)
    return make_plan(set_out(machine, settings, driver.GUEST, time.monotonic()), state)
