"""A box's processes, as this machine's kernel shows them: root in the box may see less."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testing.container.box import Box


@dataclass(frozen=True)
class Process:
    """One process: what proc_pid(5) says of it."""

    folder: Path
    uid: int
    name: str
    cmdline: tuple[bytes, ...]
    environ: tuple[bytes, ...]

    def cpu_seconds(self) -> float:
        """Return the time it has used, of all its threads, in the scheduler's nanoseconds."""
        threads = self.folder.glob("task/*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def sockets(self) -> set[str]:
        """Return the inodes of the sockets that it has open."""
        links = [str(link.readlink()) for link in (self.folder / "fd").iterdir()]
        return {found[1] for link in links if (found := re.fullmatch(r"socket:\[(\d+)]", link))}


def processes(box: Box) -> list[Process]:
    """Return every process of the box, those of `docker exec` too."""
    pids = box.docker("top", box.name, "-eo", "pid").stdout.split()[1:]
    found = []
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            found.append(_process(Path("/proc", pid)))
    return found


def commands_of(box: Box) -> list[str]:
    """Return the command line of every process of a box, also of one that has ended."""
    id = box.inspect()["Id"]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            if id in (folder / "cgroup").read_text():
                command = (folder / "cmdline").read_bytes()
                found.append(command.replace(b"\0", b" ").decode(errors="replace").strip())
    return found


def _process(folder: Path) -> Process:
    uid = re.search(r"^Uid:\t\d+\t(\d+)", (folder / "status").read_text(), re.MULTILINE)
    assert uid
    return Process(
        folder,
        int(uid[1]),
        (folder / "comm").read_text().strip(),
        _words(folder / "cmdline"),
        _words(folder / "environ"),
    )


def _words(path: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes().removesuffix(b"\0").split(b"\0"))
