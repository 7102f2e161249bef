"""The processes of the box, from /proc (proc_pid_stat(5)), and how to signal them."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping

_PARENT = b"JPY_PARENT_PID="
_DYING = 5.0  # seconds for a killed process to be gone; the GPU's driver may hold it


def kill(pid: int, number: int) -> None:
    """Signal a process that may have ended meanwhile."""
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def signal_name(number: int) -> str:
    """Return SIGTERM for 15; real-time signals have no names."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def kill_descendants(number: int) -> None:
    for pid in descendants():
        kill(pid, number)


def wake_stopped() -> None:
    """Continue what is stopped, which hears no other signal (signal(7)); the rest is told nothing.

    A program of the user's may act at CONT, and did not ask for one at each stop of the box.
    """
    for pid, state in _states().items():
        if state == b"T":
            kill(pid, signal.SIGCONT)


def descendants() -> list[int]:
    """Return every process of the box but us: as PID 1 all there are, else our descendants."""
    return list(_states())


def _states() -> dict[int, bytes]:
    """Return the state of each process of the box but us, as one letter; no zombies."""
    me = os.getpid()
    states: dict[int, bytes] = {}
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                state, parent = stat.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            states[int(name)], parents[int(name)] = state, int(parent)
    if me == 1:
        return {pid: state for pid, state in states.items() if pid != 1}
    return {pid: state for pid, state in states.items() if _is_below(pid, me, parents)}


def held() -> list[str]:
    """Return the processes of the box that wait in the kernel, as "pid 57 (python)".

    A signal ends those as well, but not before the kernel lets go of them (proc_pid_stat(5), D).
    """
    from launcher.model.printable import printable  # at the end, and not on the way to the start

    found = []
    for pid in descendants():
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
                name, _, rest = stat.read().partition("(")[2].rpartition(")")
            if rest.split()[0] == "D":
                found.append(f"pid {pid} ({printable(name)})")
    return found


def end_orphaned_kernels(mark: str) -> None:
    """Kill the kernels whose Jupyter is gone, and what they started: they would hold GPU memory.

    A kernel that computes in C never sees that its Jupyter died, and its workers outlive it.  Call
    it as their user: root in a container may not look at others' processes (CAP_SYS_PTRACE).  Only
    what carries `mark` is ended, our Jupyter's; a terminal's programs, and the kernels of another
    Jupyter that lives, are not.
    """
    deadline = time.monotonic() + _DYING
    while (orphans := _orphaned_kernels(mark.encode())) and time.monotonic() < deadline:
        for pid in orphans:
            kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _orphaned_kernels(mark: bytes) -> list[int]:
    """Return the processes with the mark and a parent Jupyter that is not there any more."""
    ours = _pid_namespace("self")
    running = {name for name in os.listdir("/proc") if name.isdecimal()}
    running.discard(str(os.getpid()))  # if it was a Jupyter's number, then a dead one's
    found = []
    for name in running:
        try:
            with open(f"/proc/{name}/environ", "rb") as stream:
                environ = stream.read().split(b"\0")
        except OSError:
            continue
        # jupyter_client puts it into the environment of every kernel (launcher.launch_kernel).
        parents = [v[len(_PARENT) :].decode() for v in environ if v.startswith(_PARENT)]
        orphan = mark in environ and parents and parents[0] not in running
        # With --pid=host others' kernels show, and their parents' numbers are not the host's.
        if orphan and _pid_namespace(name) == ours:
            found.append(int(name))
    return found


def _pid_namespace(pid: str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def _is_below(pid: int, ancestor: int, parents: Mapping[int, int]) -> bool:
    pid = parents.get(pid, 0)
    while pid > 1:
        if pid == ancestor:
            return True
        pid = parents.get(pid, 0)
    return False
