"""The logs of the box's programs, a file each: their last lines, and what follows."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence

from launcher.model import run_files

_INTERVAL = 0.2  # seconds between two looks at what is new
_END = ".log"


def names(run_dir: str) -> list[str]:
    """Return the programs that have a log; none where that cannot be told."""
    with contextlib.suppress(OSError):
        found = os.listdir(f"{run_dir}/{run_files.LOG}")
        return sorted(name.removesuffix(_END) for name in found if name.endswith(_END))
    return []


def read(run_dir: str, programs: Sequence[str], lines: int) -> Iterator[str]:
    """Yield the last lines of each; several are told apart by their names."""
    for name in programs:
        with contextlib.suppress(OSError), open(_path(run_dir, name), "rb") as log:
            for line in deque(log, maxlen=max(0, lines)):
                yield _shown(line, name, programs)


def follow(run_dir: str, programs: Sequence[str]) -> Iterator[str]:
    """Yield what is written from now on, for ever; a file that is replaced is read anew."""
    places = {name: _end(_path(run_dir, name)) for name in programs}
    while True:
        for name, (inode, offset) in places.items():
            with contextlib.suppress(OSError), open(_path(run_dir, name), "rb") as log:
                info = os.fstat(log.fileno())
                if info.st_ino != inode or info.st_size < offset:
                    offset = 0
                log.seek(offset)
                for line in log:
                    if not line.endswith(b"\n"):  # the rest is still to come
                        break
                    offset += len(line)
                    yield _shown(line, name, programs)
                places[name] = (info.st_ino, offset)
        time.sleep(_INTERVAL)


def _path(run_dir: str, name: str) -> str:
    return f"{run_dir}/{run_files.log(name)}"


def _end(path: str) -> tuple[int, int]:
    try:
        info = os.stat(path)
    except OSError:
        return 0, 0
    return info.st_ino, info.st_size


def _shown(line: bytes, name: str, programs: Sequence[str]) -> str:
    """Return the line without what a terminal would obey."""
    text = line.decode(errors="replace").rstrip("\r\n")
    text = "".join(char if char.isprintable() or char == "\t" else "?" for char in text)
    return f"{name} | {text}" if len(programs) > 1 else text
