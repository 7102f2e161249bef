"""What is said of processes that the kernel killed for want of memory."""

from __future__ import annotations

import os

import pytest

from launcher.checks.facts.how_to_run import tell_at
from launcher.detect import cgroup
from launcher.watch import memory
from launcher.watch.memory import MemoryWatch, User

USERS = [User(5 << 30, "python", 41), User(1 << 29, "jupyter-lab", 17)]


@pytest.mark.parametrize(
    ("killed", "place", "said"),
    [
        (1, "docker", "the kernel killed a process in this box: "),
        (3, "docker", "the kernel killed 3 processes in this box: "),
        (1, "docker", "python (pid 41, 5 GiB), jupyter-lab (pid 17, 0.5 GiB)"),
        (1, "docker", "fix: use less, or docker run --memory="),
        (1, "kubernetes", "a higher resources.limits.memory"),
    ],
)
def test_a_line_has_the_limit_who_has_most_and_what_gives_more(
    killed: int, place: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "reason", lambda: "its limit is 8 GiB")
    line = memory.describe(killed, USERS, tell_at(place, "memory"))
    assert said in line
    assert "its limit is 8 GiB" in line


def test_what_was_killed_before_the_box_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = [7]
    monkeypatch.setattr(cgroup, "kills", lambda: counter[0])
    watched = MemoryWatch("docker")
    assert watched.look() is None
    assert watched.more == ""
    counter[0] = 9
    line = watched.look()
    assert line
    assert "2 processes" in line
    assert watched.more.startswith("docker run --memory=")
    assert watched.look() is None
    assert watched.count == 2
    counter[0] = 0  # the cgroup is hidden now
    assert watched.look() is None
    assert watched.count == 2


def test_the_largest_are_found_and_this_process_is_of_the_box() -> None:
    found = memory.largest()
    assert 1 <= len(found) <= 3
    assert found == sorted(found, reverse=True)
    assert all(user.size > 0 and user.name for user in found)
    assert os.getpid() in [user.pid for user in memory._users()]
