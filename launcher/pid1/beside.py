"""LAUNCHER_WITH_COMMAND=services: the user's command beside the services."""

from __future__ import annotations

import os

from launcher.model.named_tuple import NamedTuple
from launcher.model.plan import Plan
from launcher.process import become, init
from launcher.process.init import Init


class Beside(NamedTuple):
    """A command, and the folder that the container was started in."""

    argv: tuple[str, ...]  # empty: none
    cwd: str

    def start(self, box: Init, plan: Plan) -> int:
        """Start it with what a notebook gets; return its pid, 0 for none."""
        if not self.argv:
            return 0

        def run() -> int:
            os.setpgid(0, 0)  # Ctrl-C is PID 1's to hear
            become.become_user(plan, self.argv, {}, self.cwd, plan.identity.umask)
            return 0

        def ended(status: int) -> None:
            if not box.stopping:
                how = init.describe_end(status)
                box.out.say(f"launcher: the command ended ({how}); the box goes on")

        return box.spawn(run, ended)


NONE = Beside((), "/")
