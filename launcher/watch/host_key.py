"""Let sshd have an RSA host key that was made too late for the banner.

sshd takes no connection for a moment when it reads its keys anew, so not while people log in for
the first time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

from launcher.model import run_files
from launcher.model.services import program_of
from launcher.process.fork import fork
from launcher.process.tree import kill
from launcher.supervise.programs import read_programs

UNDISTURBED = 60.0  # seconds from watch's start
SHOWN = "RSA host key"  # as it stands in the banner


class LateHostKey:
    """Looks for the key until it is there."""

    def __init__(self, run_dir: str, public: str) -> None:
        """Begin.

        Args:
            public: path of its public half; "" = there is none to come.
        """
        self._run_dir = run_dir
        self._public = public
        self._due = time.monotonic() + UNDISTURBED
        self._child = 0

    def look(self, say: Callable[[str], None]) -> None:
        """Let sshd have it where it is there and due: once, in a child."""
        if self._child and os.waitpid(self._child, os.WNOHANG)[0]:
            self._child = 0
        if not self._public or time.monotonic() < self._due or not os.path.exists(self._public):
            return
        run_dir, public, self._public = self._run_dir, self._public, ""
        self._child = fork(lambda: offer_late(run_dir, public, say))


def offer_late(run_dir: str, public: str, say: Callable[[str], None]) -> int:
    """Tell sshd, the log, and whoever asks for the banner; nothing where the banner has it."""
    from launcher.box import files  # here, in the child: watch stays small
    from launcher.model.plan import RenderedFile
    from launcher.model.public_key import fingerprint
    from launcher.paths.folder import read_text

    path = f"{run_dir}/{run_files.BANNER}"
    banner = read_text(path)
    if SHOWN in banner or not tell_sshd(run_dir):
        return 0
    shown = f"{SHOWN} {fingerprint(' '.join(read_text(public).split()[:2]))}"
    say(f"launcher: sshd has an RSA host key, too: {shown.rpartition(' ')[2]}")
    lines = banner.split("\n")
    at = next((n for n, line in enumerate(lines, 1) if "host key SHA256:" in line), 0)
    if at:
        lines.insert(at, f"   {shown}")
        files.write([RenderedFile(path, "\n".join(lines), 0o600, -1, -1)])
    return 0


def tell_sshd(run_dir: str) -> bool:
    """Let sshd read its configuration and keys; return whether one runs.

    By way of supervise, which leaves out of the log what sshd says of it.
    """
    sshd = read_programs(run_dir).get(program_of("ssh"))
    if sshd is None or not sshd.pid:
        return False
    with contextlib.suppress(OSError, ValueError):
        with open(f"{run_dir}/{run_files.SUPERVISOR_PID}", encoding="ascii") as stream:
            kill(int(stream.read()), signal.SIGUSR2)
        return True
    return False
