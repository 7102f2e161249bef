"""New system calls that an old filter answers with EPERM, where programs wait for ENOSYS.

glibc starts threads by clone3 and tests files by faccessat2, and falls back to what it had before
where the kernel does not know them: ENOSYS (clone(2), access(2)).  A seccomp filter that is older
than they are says EPERM, which counts as an answer: no thread can be started (moby/moby#42680).
"""

from __future__ import annotations

import _thread
import errno

# By number, the same on every architecture (syscalls(2)); with arguments that no kernel accepts, so
# that nothing is done: a structure of no size, descriptors from high to low, no path.
_CALLS = (
    ("clone3", 435, (0, 0)),
    ("close_range", 436, (2, 1, 0)),
    ("openat2", 437, (-1, 0, 0, 0)),
    ("faccessat2", 439, (-1, 0, 0, 0)),
)
THREADS = "clone3"


def refused() -> tuple[str, ...]:
    """Return the names of those that are forbidden here."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    found = []
    for name, number, arguments in _CALLS:
        given = (ctypes.c_long(argument) for argument in (number, *arguments))
        if libc.syscall(*given) < 0 and ctypes.get_errno() == errno.EPERM:
            found.append(name)
    return tuple(found)


def are_threads_refused() -> bool:
    """Return whether a filter is why no thread can be started: tried, and cheap where one can."""
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError:
        return THREADS in refused()
    return False
