"""HUP: what settings name is read again, and what services read is written again."""

from __future__ import annotations

import os
import signal

from launcher.checks.facts.how_to_run import fit
from launcher.detect.adopted import adopt
from launcher.detect.driver import GUEST
from launcher.model.errors import LauncherError, StartFailed, reason
from launcher.pid1 import prepare
from launcher.pid1.state import open_state
from launcher.plan.outset import Outset, set_out
from launcher.plan.plan import make_plan
from launcher.process.pump import Pump
from launcher.settings import load


def reload(before: Outset, supervise_pid: int) -> int:
    """HUP: read the settings' files again, rewrite keys and configuration, tell supervise.

    What runs keeps running: nothing here ends a kernel or a login.
    """
    out = Pump(1)
    idle = before.machine.host._replace(busy_ports=frozenset())  # those in use are our own
    machine = before.machine._replace(host=idle)
    try:
        settings = adopt(load.load_settings())
        outset = set_out(machine, settings, GUEST, before.started, container=before.container)
        state = open_state(settings, idle, outset.identity, mend=False)
        plan = make_plan(outset, state)
        prepare.write_files(plan, machine, settings)
    except (LauncherError, OSError) as err:
        said = reason(err) if isinstance(err, OSError) else str(err)
        why = fit(said, idle)
        out.say(f"launcher: not reloaded, everything stays as it was: {why}")
        return StartFailed.exit_code
    os.kill(supervise_pid, signal.SIGHUP)
    out.say("launcher: keys and configuration reloaded")
    return 0
