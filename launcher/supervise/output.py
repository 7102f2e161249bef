"""What a program writes: to the container's log in whole lines, and to a file of its own."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from supervisor import events, loggers
from supervisor.dispatchers import POutputDispatcher

from launcher.model.services import program_of
from launcher.model.watch import WATCH_ADDRESS

SSHD = program_of("ssh")
_OUR_VISIT = re.compile(
    rb"^Connection (closed|reset) by %s port \d+( \[preauth\])?\r?\n"
    % re.escape(WATCH_ADDRESS).encode(),
    re.MULTILINE,
)
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

    def _init_normallog(self) -> None:
        with contextlib.suppress(OSError):
            super()._init_normallog()
        for handler in self.normallog.handlers if self.normallog else ():
            handler.handleError = _be_silent  # else a traceback for each chunk, on our stderr

    def _log(self, data: bytes) -> None:
        if self.process.config.name == SSHD:
            data = _without_our_visits(data)
        with contextlib.suppress(OSError, ValueError):  # ValueError: a file that is closed
            super()._log(data)
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        self.process.config.options.show(self.process.config.name, lines)

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
    """Leave out that watch came and went without logging in, which sshd writes in one piece."""
    return _OUR_VISIT.sub(b"", data)


def _be_silent() -> None:
    """Stand in for supervisor.loggers.Handler.handleError."""
