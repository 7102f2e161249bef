"""What /etc/ld.so.preload puts into every program, of the image's and of everybody's (ld.so(8)).

Layers that share GPUs mount that file (Project-HAMi/HAMi).  Where a library in it cannot be loaded,
every program says so on standard error and goes on without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from launcher.detect.cgroup import attempt
from launcher.model.host import Preload

FILE = "etc/ld.so.preload"
_MOST = 64 * 1024  # bytes; the loader reads it at every start of a program
# Of an ELF header (elf(5)): its magic, the class, the byte order; the machine is at 18.
_MAGIC, _IDENTITY, _MACHINE = b"\x7fELF", slice(4, 6), slice(18, 20)


def read_preloads(root: Path) -> tuple[Preload, ...]:
    path = root / FILE
    if not path.exists():
        return ()
    text = (attempt(path.read_bytes) or b"")[:_MOST].decode(errors="replace").partition("\0")[0]
    return tuple(_preloads(text, root))


def _preloads(text: str, root: Path) -> Iterator[Preload]:
    """Yield each once; names are between blanks and colons, and `#` begins a comment."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    for name in dict.fromkeys(re.split(r"[\s:]+", " ".join(lines).strip())):
        if name.startswith("/") and "$" not in name:
            yield Preload(name, _fault(root / name[1:]))
        elif name:  # for the loader to look for
            yield Preload(name)


def _fault(path: Path) -> str:
    """Return why the loader passes a library by."""
    try:
        with open(path, "rb") as stream:
            header = stream.read(20)
    except FileNotFoundError:
        return "is not there"
    except OSError as err:
        return f"cannot be read: {err.strerror}"
    if not header:
        return "is empty"
    if header[:4] != _MAGIC:
        return "is no library"
    with open("/proc/self/exe", "rb") as stream:
        ours = stream.read(20)
    same = header[_IDENTITY] == ours[_IDENTITY] and header[_MACHINE] == ours[_MACHINE]
    return "" if same else "is for another kind of machine"
