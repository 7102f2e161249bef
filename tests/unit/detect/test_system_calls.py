"""Filters that are older than the system calls that they forbid, in a process of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from launcher.detect import system_calls
from testing import forbidden

ASK = """
from launcher.detect import system_calls
print(*system_calls.refused(), system_calls.are_threads_refused())
"""


def ask(*names: str) -> list[str]:
    below = [sys.executable, forbidden.__file__, ",".join(names)] if names else []
    done = subprocess.run(
        [*below, sys.executable, "-c", ASK], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("names", [("faccessat2",), ("close_range", "openat2"), ("clone3",)])
def test_what_a_filter_forbids_is_named(names: tuple[str, ...]) -> None:
    assert ask(*names) == [*names, str("clone3" in names)]


def test_nothing_is_forbidden_here() -> None:
    """What the kernel is too old for is answered by ENOSYS, which every program expects."""
    assert ask() == ["False"]


def test_threads_that_fail_for_another_reason_are_not_the_filters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(system_calls._thread, "start_new_thread", no_more)
    assert not system_calls.are_threads_refused()
