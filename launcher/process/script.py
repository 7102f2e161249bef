"""Scripts whose lines end as on Windows: no shell runs them, and an editor does not show why.

The kernel looks for a program named "/bin/bash\\r", and bash for the "\\r" that closes an `if`.
"""

from __future__ import annotations

import codecs
import os

from launcher.process.fork import write_all

_LARGEST = 1 << 20  # bytes of a script that is read for it
_REMARK = "has line ends of Windows; it runs without them (to mend it: sed -i 's/\\r$//' FILE)"


class UnixCopy:
    """A script without them, in memory, as long as the process that made it lives."""

    remark = _REMARK

    def __init__(self, text: bytes) -> None:
        self.fd = os.memfd_create("script")
        self._first = text.partition(b"\n")[0]
        write_all(self.fd, text)

    def interpreter(self) -> list[str]:
        """Return what its first line names: a program and at most one argument (execve(2))."""
        if not self._first.startswith(b"#!"):
            return []
        return [os.fsdecode(word) for word in self._first[2:].strip().split(maxsplit=1)]


def unix_copy(path: str) -> UnixCopy | None:
    """Return a script without the line ends of Windows; None where it has none, or is no text.

    Nor with the mark of its encoding before the first line, which editors there put there.
    """
    try:
        with open(path, "rb") as stream:
            text = stream.read(_LARGEST + 1)
    except OSError:  # who runs it says so
        return None
    if not text.partition(b"\n")[0].endswith(b"\r") or b"\0" in text or len(text) > _LARGEST:
        return None
    return UnixCopy(text.removeprefix(codecs.BOM_UTF8).replace(b"\r\n", b"\n"))
