"""A command in a terminal of its own, for what only happens on a tty: job control, Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence

ROWS_AND_COLUMNS = struct.pack("HHHH", 24, 80, 0, 0)


class Terminal:
    """What a person at a keyboard does: types, reads, and leaves."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._keyboard, tty = pty.openpty()
        fcntl.ioctl(tty, termios.TIOCSWINSZ, ROWS_AND_COLUMNS)
        self._process = subprocess.Popen(
            command, env=environment, stdin=tty, stdout=tty, stderr=tty, start_new_session=True
        )
        os.close(tty)
        self._unread = ""
        self.shown = ""  # everything so far, for a failure's message

    def type(self, text: str) -> None:
        """Type `text`; "\\r" is the Enter key and "\\x03" is Ctrl-C."""
        os.write(self._keyboard, text.encode())

    def read_until(self, pattern: str, timeout: float = 30) -> re.Match[str]:
        """Return the first match in what was not read yet, and take it as read."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self._unread)):
            left = deadline - time.monotonic()
            if left <= 0 or not self._receive(left):
                raise AssertionError(f"{pattern!r} never shows; the screen says:\n{self.shown}")
        self._unread = self._unread[found.end() :]
        return found

    def exit_code(self, timeout: float = 30) -> int:
        """Read to the end; return the command's exit code."""
        deadline = time.monotonic() + timeout
        while self._receive(max(0.0, deadline - time.monotonic())):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """Hang up."""
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)

    def _receive(self, timeout: float) -> bool:
        """Wait for more to read; say whether there was any."""
        if not select.select([self._keyboard], [], [], timeout)[0]:
            return False
        try:
            text = os.read(self._keyboard, 65536).decode(errors="replace")
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self._unread += text
        self.shown += text
        return bool(text)
