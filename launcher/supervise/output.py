"""What a program writes: to the container's log in whole lines, and to a file of its own."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

from supervisor import events, loggers
from supervisor.dispatchers import POutputDispatcher

from launcher.model import state_files
from launcher.model.services import program_of
from launcher.model.watch import WATCH_ADDRESS

SSHD = program_of("ssh")
_OUR_VISIT = re.compile(
    rb"^Connection (closed|reset) by %s port \d+( \[preauth\])?\r?\n"
    % re.escape(WATCH_ADDRESS).encode(),
    re.MULTILINE,
)
_NOT_YET = re.compile(
    rb"^Unable to load host key[^\n]*%s[^\n]*\r?\n" % state_files.RSA_HOST_KEY.encode(),
    re.MULTILINE,
)
_HUP = re.compile(rb"^Received SIGHUP; restarting\.\r?\n", re.MULTILINE)
_LISTENING = re.compile(rb"^Server listening on \S+ port \d+\.\r?\n", re.MULTILINE)
# What sshd says of a client that cannot get in, and what is said then, once.
_HINTS = (
    (b"Unable to negotiate with ",
     "an SSH client knows none of what sshd offers: LAUNCHER_SSH_COMPAT=1 lets old ones in"),
    (b"maximum authentication attempts exceeded",
     "an SSH client offered too many keys: ssh -o IdentitiesOnly=yes -i KEY …"),
)  # fmt: skip
_LEFT_OUT = b"[%d lines are left out here: more than 128 KiB a second]"
_RATE = 128 * 1024  # bytes a second that one program may write to the container's log for long
_BURST = 4 << 20  # bytes that it may write at once
_LONGEST_LINE = 16 * 1024
EVENTS = {
    "stdout": events.ProcessCommunicationStdoutEvent,
    "stderr": events.ProcessCommunicationStderrEvent,
}


class BoxDispatcher(POutputDispatcher):  # type: ignore[misc]
    """Sends a program's output to the container's log too, in whole lines with its name.

    The file is for "the last lines": where it cannot be written, the disk being full, nobody
    hears of it, and the program least of all.
    """

    _partial = b""
    _room = 0.0  # bytes that may be shown now
    _seen = 0.0  # CLOCK_MONOTONIC of the last look at it, seconds
    _left_out = 0  # lines, since the last that was shown

    def _init_normallog(self) -> None:
        with contextlib.suppress(OSError):
            super()._init_normallog()
        for handler in self.normallog.handlers if self.normallog else ():
            handler.handleError = _be_silent  # else a traceback for each chunk, on our stderr

    def _log(self, data: bytes) -> None:
        if self.process.config.name == SSHD:
            data = self._without_our_hup(_without_our_visits(data))
            self._hint(data)
        with contextlib.suppress(OSError, ValueError):  # ValueError: a file that is closed
            super()._log(data)
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        self.process.config.options.show(self.process.config.name, self._bounded(lines))

    def _without_our_hup(self, data: bytes) -> bytes:
        """Leave out that sshd began anew by a HUP of ours: each first start would look troubled.

        What it says first then is where it listens, as it did before.
        """
        before = self.process.own_hup
        if before == "sent":
            data, heard = _HUP.subn(b"", data)
            self.process.own_hup = "heard" if heard else "sent"
        if self.process.own_hup == "heard":
            data = _LISTENING.sub(b"", data)
        if data and before == "heard":
            self.process.own_hup = ""
        return data

    def _hint(self, data: bytes) -> None:
        """Say what helps, after sshd's own line."""
        said = self.process.config.options.hints_said
        for line, hint in _HINTS:
            if line in data and hint not in said:
                said.add(hint)
                self.process.config.options.pump.say(f"launcher: {hint}")

    def _bounded(self, lines: list[bytes]) -> list[bytes]:
        """Leave out what is more than a log can hold, and say how many lines that were.

        A server that cannot accept connections says so in a loop: megabytes a second, which
        anybody may set off.  A program's own file is bounded anyway, and has the last lines.
        """
        now = time.monotonic()
        self._room = min(_BURST, self._room + (now - self._seen) * _RATE)
        self._seen = now
        kept = []
        for line in lines:
            if len(line) > self._room:
                self._left_out += 1
                continue
            self._room -= len(line) + 1
            if self._left_out:
                kept.append(_LEFT_OUT % self._left_out)
                self._left_out = 0
            kept.append(line)
        return kept

    def close(self) -> None:
        if self._partial:
            self._log(b"\n")
        super().close()


class PumpHandler(loggers.Handler):  # type: ignore[misc]
    """supervisor's own words, in the container's log."""

    def __init__(self, pump: Any) -> None:
        super().__init__()
        self._pump = pump

    def emit(self, record: Any) -> None:
        self._pump.say(f"launcher: {record.asdict()['message'].strip()}")


def _without_our_visits(data: bytes) -> bytes:
    """Leave out that watch came and went without logging in, which sshd writes in one piece.

    And that there is no RSA host key yet, at a first start.
    """
    return _NOT_YET.sub(b"", _OUR_VISIT.sub(b"", data))


def _be_silent() -> None:
    """Stand in for supervisor.loggers.Handler.handleError."""
