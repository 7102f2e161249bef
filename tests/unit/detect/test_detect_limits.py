"""CPU, memory and process limits, from recorded cgroup trees: version 1, version 2, nested."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.detect import detect
from tests.unit.detect.test_detect import tree

NO_LIMIT_V1 = "9223372036854771712\n"  # the largest page-aligned number


# --- limits: cgroup v2 -----------------------------------------------------------------------

V2 = {"proc/self/cgroup": "0::/\n"}
V2_NESTED = {"proc/self/cgroup": "0::/user.slice/box.scope\n"}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({**V2, "cpu.max": "150000 100000"}, 1.5, id="container"),
        pytest.param({**V2, "cpu.max": "max 100000"}, None, id="unlimited"),
        pytest.param(V2, None, id="root-group-has-no-file"),
        pytest.param(
            {
                **V2_NESTED,
                "user.slice/box.scope/cpu.max": "800000 100000",
                "user.slice/cpu.max": "200000 100000",
                "cpu.max": "max 100000",
            },
            2.0,
            id="a-parent-is-tighter",
        ),
        pytest.param(
            {**V2_NESTED, "user.slice/box.scope/cpu.max": "50000 100000"}, 0.5, id="half-a-cpu"
        ),
        pytest.param({**V2_NESTED, "cpu.max": "400000 100000"}, 4.0, id="mount-starts-at-ours"),
        pytest.param({**V2, "cpu.max": "rubbish"}, None, id="rubbish"),
        pytest.param({**V2, "cpu.max": "100000 0"}, None, id="period-zero"),
    ],
)
def test_cpu_quota_v2(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    root = tree(tmp_path, mounted(files, "sys/fs/cgroup"))
    assert detect.read_limits(root).cpus.quota == quota


def mounted(files: dict[str, str], mount: str) -> dict[str, str]:
    """Return the files with those of the cgroup put below its mount."""
    return {n if n.startswith("proc/") else f"{mount}/{n}": text for n, text in files.items()}


@pytest.mark.parametrize(
    ("files", "pids"),
    [
        pytest.param({**V2, "pids.max": "512\n"}, 512, id="container"),
        pytest.param({**V2, "pids.max": "max\n"}, None, id="unlimited"),
        pytest.param(
            {**V2_NESTED, "user.slice/pids.max": "90", "user.slice/box.scope/pids.max": "1000"},
            90,
            id="a-parent-is-tighter",
        ),
    ],
)
def test_process_limit(tmp_path: Path, files: dict[str, str], pids: int | None) -> None:
    assert detect.read_limits(tree(tmp_path, mounted(files, "sys/fs/cgroup"))).pids == pids


MEMINFO = {"proc/meminfo": "MemTotal:       16384 kB\nMemFree:        1024 kB\n"}


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        pytest.param({**V2, **MEMINFO, "memory.max": "1048576"}, 1048576, id="limited"),
        pytest.param({**V2, **MEMINFO, "memory.max": "max"}, 16384 * 1024, id="unlimited"),
        pytest.param(
            {**V2, **MEMINFO, "memory.max": "99999999999"}, 16384 * 1024, id="more-than-there-is"
        ),
        pytest.param({**V2, "memory.max": "1048576"}, 1048576, id="meminfo-masked"),
        pytest.param(MEMINFO, 16384 * 1024, id="no-cgroup"),
    ],
)
def test_memory_v2(tmp_path: Path, files: dict[str, str], memory: int) -> None:
    assert detect.read_limits(tree(tmp_path, mounted(files, "sys/fs/cgroup"))).memory == memory


# --- limits: cgroup v1 -----------------------------------------------------------------------

# What a container sees on a v1 host: the host's path, and a mount that starts at its own group.
V1 = """\
5:memory:/docker/3f2a
4:cpu,cpuacct:/docker/3f2a
3:pids:/docker/3f2a
1:name=systemd:/docker/3f2a
0::/elsewhere
"""


def v1(files: dict[str, str]) -> dict[str, str]:
    return {"proc/self/cgroup": V1, **{f"sys/fs/cgroup/{n}": text for n, text in files.items()}}


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        pytest.param({"cfs_quota_us": "50000", "cfs_period_us": "100000"}, 0.5, id="limited"),
        pytest.param({"cfs_quota_us": "-1", "cfs_period_us": "100000"}, None, id="unlimited"),
        pytest.param({"cfs_quota_us": "50000"}, None, id="no-period"),
    ],
)
def test_cpu_quota_v1(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    root = tree(tmp_path, v1({f"cpu/cpu.{name}": text for name, text in files.items()}))
    assert detect.read_limits(root).cpus.quota == quota


def test_memory_and_processes_v1(tmp_path: Path) -> None:
    files = {
        "memory/memory.limit_in_bytes": "2097152",
        "pids/pids.max": "256",
        "cpu/cpu.shares": "2",
    }
    limits = detect.read_limits(tree(tmp_path, v1(files)))
    assert (limits.memory, limits.pids, limits.cpus.quota) == (2097152, 256, None)


def test_v1_writes_no_limit_as_a_huge_number(tmp_path: Path) -> None:
    root = tree(tmp_path, v1({"memory/memory.limit_in_bytes": NO_LIMIT_V1, "pids/pids.max": "max"}))
    limits = detect.read_limits(root)
    assert (limits.memory, limits.pids) == (None, None)


def test_v1_nested_groups_take_the_tightest(tmp_path: Path) -> None:
    files = {
        "memory/docker/3f2a/memory.limit_in_bytes": "4194304",
        "memory/docker/memory.limit_in_bytes": "1048576",
        "memory/memory.limit_in_bytes": NO_LIMIT_V1,
    }
    assert detect.read_limits(tree(tmp_path, v1(files))).memory == 1048576


@pytest.mark.parametrize("path", ["/../..", "/"])
def test_a_group_outside_our_namespace_is_the_mounts_root(tmp_path: Path, path: str) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": f"0::{path}\n", "sys/fs/cgroup/pids.max": "77"})
    assert detect.read_limits(root).pids == 77


def test_limits_of_this_machine() -> None:
    limits = detect.read_limits()
    assert 1 <= limits.cpus.allowed <= limits.cpus.online
    assert limits.cpus.allowed == len(os.sched_getaffinity(0))
    assert limits.memory


def test_usable_cpus_are_the_tighter_of_mask_and_quota() -> None:
    assert detect.CpuBudget(64, 8, None).usable == 8
    assert detect.CpuBudget(64, 8, 2.5).usable == 2.5
    assert detect.CpuBudget(64, 8, 32.0).usable == 8
