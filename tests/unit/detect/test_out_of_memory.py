"""The counters of both cgroup versions, as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.detect import cgroup as out_of_memory

V1 = ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n")
V2 = ("sys/fs/cgroup/memory.events", "low 0\nhigh 7\nmax 9\noom 5\noom_kill {}\noom_group_kill 0\n")


def write(root: Path, file: tuple[str, str], count: int) -> None:
    path = root / file[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(file[1].format(count))


@pytest.fixture(params=[V1, V2], ids=["v1", "v2"])
def cgroup(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, str]:
    (tmp_path / "proc/self").mkdir(parents=True)
    group = "9:memory:/docker/x" if request.param is V1 else "0::/"
    (tmp_path / "proc/self/cgroup").write_text(f"{group}\n")
    write(tmp_path, request.param, 3)
    return request.param


def test_what_the_kernel_killed_is_counted(cgroup, tmp_path: Path) -> None:
    assert out_of_memory.kills(tmp_path) == 3


def test_a_rise_is_noticed_and_what_was_before_is_not(cgroup, tmp_path: Path) -> None:
    seen = out_of_memory.Kills(tmp_path)
    assert not seen.recent()
    write(tmp_path, cgroup, 4)
    seen.look()  # the loop may look before the death is known
    assert seen.recent()


def test_it_is_not_read_more_often_than_asked(cgroup, tmp_path: Path, monkeypatch) -> None:
    seen, read = out_of_memory.Kills(tmp_path), []
    monkeypatch.setattr(out_of_memory, "kills", lambda root: read.append(root) or 3)
    for _ in range(5):
        seen.look(every=60)
    assert len(read) == 1


def test_the_limit_is_told(cgroup, tmp_path: Path) -> None:
    name = "memory.limit_in_bytes" if cgroup is V1 else "memory.max"
    (tmp_path / cgroup[0]).with_name(name).write_text(f"{16 << 30}\n")
    assert out_of_memory.reason(tmp_path) == "the box is out of memory: its limit is 16 GiB"


def test_where_nothing_says_it_nothing_is_said(tmp_path: Path) -> None:
    assert out_of_memory.kills(tmp_path) == 0
    assert not out_of_memory.Kills(tmp_path).recent()
