"""What a start of the services knows before it knows the GPUs: settings, box, identity.

Imports little, so that the child that opens the state directory is under way while PID 1 imports
what plans.
"""

from __future__ import annotations

import os

from launcher.box import files, run_dir
from launcher.detect.adopted import adopt
from launcher.detect.driver import read_host
from launcher.model.host import Host
from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Identity
from launcher.plan.identity import plan_identity
from launcher.process.init import Child, Init
from launcher.settings import environ, load
from launcher.settings.table import Settings


class Begun(NamedTuple):
    """What is asked for and where, while a child opens the state."""

    settings: Settings
    host: Host
    identity: Identity
    opening: Child


def begin(box: Init, said: tuple[str, ...] | None = None) -> Begun:
    """Read the settings and the box; say every warning that was not `said`.

    Args:
        said: None = this is the first time, so the run directory is taken.

    Raises BadSetting where another box has that.
    """
    settings = adopt(load.load_settings())
    box.stop_timeout = settings.stop_timeout
    files.take_run_dir(settings.run_dir)
    if said is None:
        settings = _claim(box, settings)
    for warning in settings.warnings:
        if warning not in (said or ()):
            box.out.say(f"launcher: {warning}")
    host = read_host(settings)
    identity = plan_identity(host, settings)
    return Begun(settings, host, identity, box.fork(lambda: _open_state(settings, host, identity)))


def _claim(box: Init, settings: Settings) -> Settings:
    """Take the run directory; without root, another one and other ports where these are in use."""
    if os.geteuid() == 0 or "run_dir" in settings.given:
        run_dir.claim(settings.run_dir)
        return settings
    from launcher.pid1.apart import stand_apart  # who is root goes another way

    chosen, lines = stand_apart(settings)
    for line in lines:
        box.out.say(f"launcher: {line}")
    if not chosen:
        return settings
    environ.replace({**environ.own(), **chosen})
    return adopt(load.load_settings())


def _open_state(settings: Settings, host: Host, who: Identity) -> bytes:
    from launcher.model import codec
    from launcher.pid1.state import open_state

    return codec.to_json(open_state(settings, host, who), reveal=True).encode()
