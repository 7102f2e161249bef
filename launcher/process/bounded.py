"""Run programs that may hang, crash or print anything, for a bounded time.

A process in uninterruptible sleep cannot be killed: it is left behind, never waited for.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from launcher.model.host import Account
from launcher.process import become, fork
from launcher.process.tree import signal_name

_MOST = 64 * 1024  # bytes of output that are kept; the last ones count
_SILENCE = 1.0  # seconds after which a person wants to know what is waited for
_TICK = 0.02
_LAST_WAIT = 0.5  # for what was just killed


class Child:
    """A program that runs in a session of its own, as the user."""

    def __init__(
        self,
        argv: Sequence[str],
        environ: Mapping[str, str],
        user: Account | None = None,
    ) -> None:
        """Start it.  Raises OSError where it cannot be started."""

        def prepare() -> None:
            fork.restore_signals()
            fork.forbid_core_dumps()
            fork.limit_files()
            if user:
                # A root without capabilities is nobody's but its own.
                with contextlib.suppress(PermissionError):
                    become.drop_to(user.uid, user.gid, user.groups)

        self._process = subprocess.Popen(
            argv,
            env=dict(environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=prepare,
        )
        assert self._process.stdout
        assert self._process.stderr
        self._kept = {self._process.stdout.fileno(): b"", self._process.stderr.fileno(): b""}
        self._out, self._err = self._kept
        self.open = {self._out, self._err}  # pipes that may still say something
        for pipe in self.open:
            os.set_blocking(pipe, False)

    def has_ended(self) -> bool:
        """Take what is there to read; its end counts, not EOF, which a grandchild may hold."""
        ended = self._process.poll() is not None
        for pipe in tuple(self.open):
            self._read(pipe)
        return ended

    def _read(self, pipe: int) -> None:
        # Bounded, for it may print faster than we read.
        for _ in range(16):
            try:
                chunk = os.read(pipe, _MOST)
            except BlockingIOError:
                return
            if not chunk:
                self.open.discard(pipe)
                return
            self._kept[pipe] = (self._kept[pipe] + chunk)[-_MOST:]

    def kill(self) -> None:
        """Kill it and what it started, if it is still there; close its pipes."""
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WAIT)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()
        self.open.clear()

    @property
    def answer(self) -> dict[str, object] | None:
        """Return the last line of its output that is a JSON object."""
        for line in reversed(self._kept[self._out].splitlines()):
            with contextlib.suppress(ValueError, RecursionError):  # whatever it printed
                found = json.loads(line)
                if isinstance(found, dict):
                    return found
        return None

    @property
    def end(self) -> str:
        """Return how it ended without an answer, in words."""
        status = self._process.returncode
        if status is not None and status < 0:
            return f"killed by {signal_name(-status)}"
        lines = self._kept[self._err].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with status {status}"


def start_all(
    commands: Iterable[tuple[Sequence[str], Mapping[str, str]]], user: Account | None = None
) -> list[Child]:
    """Start a child for each command and its environment: all of them, or none.

    Raises OSError where one cannot be started.
    """
    children: list[Child] = []
    try:
        for argv, environ in commands:
            children.append(Child(argv, environ, user))
    except OSError:
        for child in children:
            child.kill()
        raise
    return children


def wait_for(
    children: Sequence[Child],
    seconds: float,
    silence: Callable[[], None],
    enough: Callable[[], bool] = lambda: False,
) -> tuple[bool, ...]:
    """Wait until all have ended, at most so long; return which did.  The others are killed.

    Args:
        silence: is called once, after the first second.
        enough: says that nothing more is to be waited for.
    """
    began = time.monotonic()
    told = False
    try:
        while True:
            ended = tuple([child.has_ended() for child in children])
            waited = time.monotonic() - began
            if all(ended) or waited >= seconds or enough():
                return ended
            if waited >= _SILENCE and not told:
                told = True
                silence()
            running = [child for child, done in zip(children, ended, strict=True) if not done]
            pipes = [pipe for child in running for pipe in child.open]
            # Between closing its pipes and its end a process has little left to do.
            select.select(pipes, [], [], min(_TICK if pipes else _TICK / 10, seconds - waited))
    finally:
        for child in children:
            child.kill()
