"""One process of this checkout at a time, where several would write the same folder of `.cache`."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache"


@contextmanager
def turn(name: str) -> Iterator[None]:
    """Hold the lock of that name for the block: tests beside each other want the same program."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
