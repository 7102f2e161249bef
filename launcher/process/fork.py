"""The one way to fork: the child starts clean, and never comes back.

Light, since watch keeps in memory what it imports.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable

_FILES = 65536  # more than the driver opens, on the largest machines
_FAILED = 70  # sysexits.h, EX_SOFTWARE: an exception that nobody expected


def fork(work: Callable[[], int], *, core: bool = False) -> int:
    """Run `work` in a child, whose exit status is what it returns; return the child's pid.

    Args:
        core: leave the limit of core dumps as it is, for a program of the user's.

    Raises OSError where there is no room for one more process.
    """
    pid = os.fork()
    if pid:
        return pid
    status = _FAILED
    try:
        restore_signals()
        if not core:
            forbid_core_dumps()
        status = work()
    except BaseException:
        import traceback  # here, where it is needed

        traceback.print_exc()
    finally:
        os._exit(status)


def fork_to_answer(work: Callable[[int], int]) -> tuple[int, int]:
    """Run `work` in a child; return its pid, and the pipe from which its answer is read.

    `work` is given the descriptor to write the answer to.  Raises OSError where there is no room
    for one more process.
    """
    reader, writer = os.pipe()
    try:
        pid = fork(lambda: _answer(work, reader, writer))
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    return pid, reader


def _answer(work: Callable[[int], int], reader: int, writer: int) -> int:
    os.close(reader)
    return work(writer)


def write_all(fd: int, content: bytes) -> None:
    """Write it whole: a pipe takes a part at a time."""
    while content:
        content = content[os.write(fd, content) :]


def restore_signals() -> None:
    """Undo what Python and PID 1 set, since fork and exec keep the mask and what is ignored.

    A mask left blocked costs supervise its SIGTERM.
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):
            if signal.getsignal(number) is not signal.SIG_DFL:
                signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def hear_of_broken_pipes() -> None:
    """Let a peer that hangs up be an error to handle, not our end."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def end_with(parent: int) -> bool:
    """Be killed when `parent` is (prctl(2), PR_SET_PDEATHSIG); return whether it is still there.

    A change of user undoes it.
    """
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def limit_files() -> None:
    """Let the process have fewer files open than some engines allow: a thousand million.

    The driver closes each that might be open before it asks nvidia-persistenced, which takes half a
    minute then (NVIDIA/nvidia-container-toolkit#1053).
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > _FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, hard))


def forbid_core_dumps() -> None:
    """A core of a crashed driver library would fill the disk."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
