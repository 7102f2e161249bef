"""The order of things: detect → plan → render → run.  What PID 1 does first, and what it ends with.

What takes time starts before anything else is even imported: the driver is asked in one child, and
supervisor imported in another.  `start` goes on from there.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import detect, driver, init
from launcher.errors import BadSetting, LauncherError, reason
from launcher.init import Init
from launcher.pump import Pump

if TYPE_CHECKING:
    from launcher.host import Host
    from launcher.machine import Machine
    from launcher.model import Plan
    from launcher.settings import Settings

# A command's standard error is its own: one line of ours, unless the driver is really stuck.
COMMAND_PATIENCE = 2.0
GUEST = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest")


def run(argv: Sequence[str], started: float) -> int:
    """Be the box: services without arguments, else that command.  Returns the exit status."""
    provide_standard_streams()
    if not argv:
        os.chdir("/")  # the workspace is a mount that may go away, or be taken away
    out = Pump(2 if argv else 1)
    box = Init(out)
    try:
        asked = driver.ask(box)
        supervisor = None if argv else Supervisor(box)
        from launcher import start  # while the children work

        if supervisor is None:
            return start.command(box, asked, list(argv), started)
        return start.services(box, asked, supervisor, started)
    except init.Stopped as stop:
        return 128 + stop.number if argv else 0
    except LauncherError as err:
        for line in str(err).splitlines():
            out.say(f"launcher: {line}")
        return err.exit_code
    except OSError as err:
        out.say(f"launcher: cannot start: {reason(err)}")
        return BadSetting.exit_code
    finally:
        box.end_stragglers()
        out.flush(timeout=0.5)


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


def detect_machine(settings: Settings, root: Path = Path("/")) -> Machine:
    """Return what this machine is, without starting anything."""
    box = Init(Pump(2))
    asked = driver.ask(box, root)
    host = read_host(settings, root)
    return driver.machine(
        box, asked, host, time.monotonic(), settings.detect_timeout, COMMAND_PATIENCE, root
    )


def preview_plan(settings: Settings) -> Plan:
    """Return what a start would do here; the secrets in it are made up."""
    from launcher.model import Certificate, Secret, State
    from launcher.plan import make_plan

    machine = detect_machine(settings)
    made_up = Secret("made-at-the-start")
    certificate = Certificate("", made_up, self_signed=settings.tls_cert is None)
    state = State(made_up, made_up, None, certificate=certificate if settings.https else None)
    return make_plan(machine, settings, state, GUEST, time.monotonic())


def read_host(settings: Settings, root: Path = Path("/")) -> Host:
    """Return the box that we run in, as the settings want it looked at."""
    return detect.read_host(
        settings.environ, settings.user, settings.workspace, root, settings.python
    )


class Supervisor:
    """The child that imports supervisor while the plan is made, then waits for the word."""

    def __init__(self, box: Init) -> None:
        reader, self._writer = os.pipe()
        self.pid = box.spawn(lambda: _supervise(reader, self._writer))
        os.close(reader)

    def go(self, run_dir: str) -> None:
        """Let it start the services, as the files in `run_dir` say."""
        with contextlib.suppress(BrokenPipeError):  # it has ended already: whoever waits is told
            os.write(self._writer, run_dir.encode())
        os.close(self._writer)


def _supervise(go_reader: int, go_writer: int) -> int:
    os.close(go_writer)
    os.setpgid(0, 0)  # Ctrl-C is PID 1's to hear
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until supervisor hears it, no reason to end
    from launcher import supervise

    gc.enable()
    run_dir = os.read(go_reader, 4096).decode()
    os.close(go_reader)
    return supervise.run(run_dir) if run_dir else 0
