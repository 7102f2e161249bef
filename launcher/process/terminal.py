"""A terminal of its own for a program of somebody else's, started from root's.

Whoever shares a terminal can type into it (ioctl_tty(2), TIOCSTI), and so into root's shell; whose
it is can read what root types there.  sudo and su know it as use_pty, --pty.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable

from launcher.process.fork import fork, write_all
from launcher.process.init import exit_code

_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def is_shared() -> bool:
    """Return whether somebody else, such as root's shell, uses our terminal, too."""
    if os.getsid(0) == os.getpid():  # as `docker exec -it BOX launcher exec …` starts us
        return False
    if _terminal() is not None:
        return True
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError:
        return False
    return True


def run_apart(work: Callable[[], int]) -> int:
    """Run `work` in a session of its own; return its exit status, 128 + n after signal n.

    Where it reads from the terminal, or writes to it, it has another, which this process relays.
    """
    shared = _terminal()
    return _in_a_session(work) if shared is None else _relay(work, shared)


def _terminal() -> int | None:
    """Return which of the standard descriptors is a terminal; the output first."""
    return next((fd for fd in (1, 2, 0) if os.isatty(fd)), None)


def _in_a_session(work: Callable[[], int]) -> int:
    def run() -> int:
        os.setsid()
        return work()

    pid = fork(run, core=True)
    for number in _HANDED_ON:
        signal.signal(number, lambda caught, frame: os.kill(pid, caught))
    return exit_code(os.waitpid(pid, 0)[1])


def _relay(work: Callable[[], int], shared: int) -> int:
    master, slave = os.openpty()
    _copy_size(shared, master)
    with contextlib.suppress(termios.error):
        termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(shared))

    def run() -> int:
        os.close(master)
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):  # what is sent elsewhere stays there
            if os.isatty(fd):
                os.dup2(slave, fd)
        os.close(slave)
        return work()

    pid = fork(run, core=True)
    os.close(slave)
    signal.signal(signal.SIGWINCH, lambda number, frame: _copy_size(shared, master))
    for number in _HANDED_ON:
        signal.signal(number, lambda caught, frame: os.kill(pid, caught))
    before = termios.tcgetattr(shared)
    typed = os.isatty(0)  # else it reads its own input, and Ctrl-C comes to us as a signal
    tty.setraw(shared)
    if not typed:
        _keep_signals(shared)
    try:
        _pass_on(master, shared, [0, master] if typed else [master])
    finally:
        termios.tcsetattr(shared, termios.TCSAFLUSH, before)
    return exit_code(os.waitpid(pid, 0)[1])


def _keep_signals(terminal: int) -> None:
    """Let Ctrl-C be a signal on a terminal that is raw otherwise: termios(3), ISIG."""
    mode = termios.tcgetattr(terminal)
    mode[3] |= termios.ISIG
    termios.tcsetattr(terminal, termios.TCSANOW, mode)


def _pass_on(master: int, shared: int, sources: list[int]) -> None:
    """Copy both ways until nobody has the other side open (EIO)."""
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select(sources, [], [])
        for fd in ready:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            if data:
                write_all(shared if fd == master else master, data)
            elif fd == master:
                return
            else:
                sources.remove(0)


def _copy_size(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
