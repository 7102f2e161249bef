"""The launcher's own last lines, for whoever may not read the container's log.

The banner, with its token and password, is none of them, and what programs write neither.
"""

from __future__ import annotations

import time
from collections import deque

from launcher.box import files
from launcher.model.errors import BadSetting
from launcher.model.plan import RenderedFile
from launcher.process.pump import Pump

_KEPT = 100  # lines
_LONGEST = 1000  # characters of a line
_OURS = b"launcher: "


class Log(Pump):
    """The container's log, which keeps the launcher's own lines besides."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.changed = False
        self._lines: deque[str] = deque(maxlen=_KEPT)

    def write(self, text: bytes) -> None:
        for line in text.split(b"\n"):
            if line.startswith(_OURS):
                said = line.decode(errors="replace")[:_LONGEST]
                self._lines.append(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {said}")
                self.changed = True
        super().write(text)

    def keep(self, path: str) -> None:
        """Write the lines to a file that everybody may read; where there is no room, later."""
        from launcher.model.masking import mask_text  # once there is something to say

        text = "".join(f"{mask_text(line)}\n" for line in self._lines)
        try:
            files.write([RenderedFile(path, text, 0o644, -1, -1)])
        except BadSetting:
            return
        self.changed = False
