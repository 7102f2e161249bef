"""The logs of the box's programs, a file each: their last lines, and what follows."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence

from launcher.model import run_files

_INTERVAL = 0.2  # seconds between two looks at what is new
_END = ".log"


def names(run_dir: str) -> list[str]:
    """Return the programs that have a log; none where no box keeps any.

    Raises PermissionError where only root may look.
    """
    try:
        found = os.listdir(f"{run_dir}/{run_files.LOG}")
    except PermissionError:
        raise
    except OSError:
        return []
    return sorted(name.removesuffix(_END) for name in found if name.endswith(_END))


class Logs:
    """The logs of some programs; several are told apart by their names."""

    def __init__(self, run_dir: str, programs: Sequence[str]) -> None:
        self._paths = {name: f"{run_dir}/{run_files.log(name)}" for name in programs}
        self._places = dict.fromkeys(programs, (0, 0))  # inode, and how far it has been read

    def last(self, lines: int) -> Iterator[str]:
        """Yield the last lines of each."""
        for name in self._paths:
            yield from deque(self._new(name), maxlen=max(0, lines))

    def follow(self) -> Iterator[str]:
        """Yield what comes after `last`, for ever; a file that is replaced is read anew."""
        while True:
            for name in self._paths:
                yield from self._new(name)
            time.sleep(_INTERVAL)

    def _new(self, name: str) -> Iterator[str]:
        """Yield the whole lines that were not read yet."""
        inode, offset = self._places[name]
        try:
            with open(self._paths[name], "rb") as log:
                info = os.fstat(log.fileno())
                if info.st_ino != inode or info.st_size < offset:
                    offset = 0
                log.seek(offset)
                content = log.read()
        except OSError:
            return
        *whole, rest = content.split(b"\n")  # the rest is still to come
        self._places[name] = (info.st_ino, offset + len(content) - len(rest))
        for line in whole:
            yield self._shown(name, line)

    def _shown(self, name: str, line: bytes) -> str:
        """Return the line without what a terminal would obey."""
        text = line.decode(errors="replace").rstrip("\r")
        text = "".join(char if char.isprintable() or char == "\t" else "?" for char in text)
        return f"{name} | {text}" if len(self._paths) > 1 else text
