"""When a program that ended is started again, and what is said of it.  Pure.

The first end is answered at once.  Each further one waits twice as long, so that a program that
cannot run takes neither the machine nor the log; a long run makes the past forgotten.
"""

from __future__ import annotations

FORGOTTEN_AFTER = 60.0  # seconds of running
_ALWAYS_SAID = 5  # ends in a row; of those that follow, every tenth
_MOST_DOUBLINGS = 30  # 2.0 ** 1024 is an OverflowError, and a program may end for years


def in_a_row(before: int, ran: float) -> int:
    """Count an end after `ran` seconds, where `before` were counted in a row."""
    return 1 if ran >= FORGOTTEN_AFTER else before + 1


def wait(ends: int, longest: float) -> float:
    """Return how many seconds to wait after that many ends in a row: 0, 1, 2, 4, 8 … `longest`."""
    return 0.0 if ends <= 1 else min(longest, 2.0 ** min(ends - 2, _MOST_DOUBLINGS))


def restart_line(name: str, ran: float, how: str, ends: int, pause: float) -> str | None:
    """Return what is said of an end that a restart follows; None where nothing is said.

    Args:
        ran, pause: seconds that it ran, and until it is started again.
        how: "exit status 1", "killed by SIGKILL".
        ends: how many in a row, this one included.
    """
    if ends > _ALWAYS_SAID and ends % 10:
        return None
    when = f"in {pause:g} s" if pause else "at once"
    rest = ""
    if ends == _ALWAYS_SAID:
        rest = " (from here on every tenth end is said)"
    elif ends > _ALWAYS_SAID:
        rest = f" (its end number {ends} in a row)"
    return f"{name} ended after {duration(ran)} ({how}); it is started again {when}{rest}"


def duration(seconds: float) -> str:
    """Return a time for people: 12 s, 3 min, 26 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.0f} h"
