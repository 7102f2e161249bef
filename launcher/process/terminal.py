"""A terminal of its own for a program of somebody else's, started from root's.

Whoever shares a terminal can type into it (ioctl_tty(2), TIOCSTI), and so into root's shell.  Linux
6.2 and later can forbid that (dev.tty.legacy_tiocsti = 0); sudo and su know it as use_pty, --pty.
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

_FORBIDDEN = "/proc/sys/dev/tty/legacy_tiocsti"
_HANDED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def is_shared() -> bool:
    """Return whether what we start could type into the terminal that we were started from."""
    try:
        with open(_FORBIDDEN, encoding="ascii") as stream:
            if stream.read().strip() == "0":
                return False
    except OSError:
        pass  # an older kernel, which has no such choice
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError:
        return False
    return True


def run_apart(work: Callable[[], int]) -> int:
    """Run `work` in a session of its own; return its exit status, 128 + n after signal n.

    Where standard input is the terminal, it has another, which this process relays.
    """
    return _relay(work) if os.isatty(0) else _in_a_session(work)


def _in_a_session(work: Callable[[], int]) -> int:
    def run() -> int:
        os.setsid()
        return work()

    pid = fork(run, core=True)
    for number in _HANDED_ON:
        signal.signal(number, lambda caught, frame: os.kill(pid, caught))
    return exit_code(os.waitpid(pid, 0)[1])


def _relay(work: Callable[[], int]) -> int:
    master, slave = os.openpty()
    _copy_size(0, master)
    with contextlib.suppress(termios.error):
        termios.tcsetattr(slave, termios.TCSANOW, termios.tcgetattr(0))

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
    signal.signal(signal.SIGWINCH, lambda number, frame: _copy_size(0, master))
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        _pass_on(master)
    finally:
        termios.tcsetattr(0, termios.TCSAFLUSH, before)
    return exit_code(os.waitpid(pid, 0)[1])


def _pass_on(master: int) -> None:
    """Copy both ways until nobody has the other side open (EIO)."""
    sys.stdout.flush()
    sources = [0, master]
    while True:
        ready, _, _ = select.select(sources, [], [])
        for fd in ready:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            if data:
                write_all(1 if fd == master else master, data)
            elif fd == master:
                return
            else:
                sources.remove(0)


def _copy_size(source: int, target: int) -> None:
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(source, termios.TIOCGWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
        fcntl.ioctl(target, termios.TIOCSWINSZ, size)
