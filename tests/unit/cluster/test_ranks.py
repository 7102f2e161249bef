"""Each rank beside its GPU: the plan for machines of any shape, and what this kernel does of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.cluster import devices
from launcher.cluster.job import Job
from launcher.cluster.place import Said
from launcher.cluster.ranks import (
    CpuSets,
    Device,
    bind,
    count_processes,
    seat,
)
from launcher.cluster.rendezvous import choose_variables
from launcher.detect import sysfs
from launcher.model.cpu_list import read_list, write_list

RANK = Path(__file__).parents[3] / "launcher" / "guest" / "rank.py"
TORCH = Path(__file__).parents[3] / ".cache" / "torch"

ONE = CpuSets(frozenset(range(16)), (frozenset(range(16)),))
TWO = CpuSets(frozenset(range(104)), (frozenset(range(52)), frozenset(range(52, 104))))
EIGHT = CpuSets(
    frozenset(range(128)), tuple(frozenset(range(16 * n, 16 * n + 16)) for n in range(8))
)


def gpus(machine: CpuSets, count: int) -> tuple[Device, ...]:
    """Return GPUs that are spread over the NUMA nodes."""
    nodes = machine.numa
    return tuple(
        Device("NVIDIA H100", f"0000:{n:02x}:00.0", nodes[n * len(nodes) // count])
        for n in range(count)
    )


@pytest.mark.parametrize(
    ("machine", "count", "lists", "threads"),
    [
        (ONE, 8, "", 2),
        (TWO, 8, ":".join(["0-51"] * 4 + ["52-103"] * 4), 13),
        (TWO, 1, "0-51", 52),
        (EIGHT, 8, ":".join(write_list(node) for node in EIGHT.numa), 16),
        (EIGHT, 4, ":".join(write_list(node) for node in EIGHT.numa[::2]), 16),
    ],
)
def test_a_rank_gets_its_gpu_s_node(machine: CpuSets, count: int, lists: str, threads: int) -> None:
    seats = seat(count, gpus(machine, count), machine)
    bound = bind(seats, {}, {}, own_option=False, is_gpu=True)
    assert (bound.lists, seats.threads) == (lists, threads)
    values = [one.value for one in bound.variables]
    assert values == ([str(threads)] if count > 1 else [])


def test_a_cpu_box_has_a_process_for_each_node() -> None:
    count, choice = count_processes({}, (), TWO, 104)
    assert (count, choice.why) == (2, "one a NUMA node, as CUDA sees no GPU")
    assert bind(seat(2, (), TWO), {}, {}, False, False).lists == "0-51:52-103"
    assert bind(seat(4, (), TWO), {}, {}, False, False).lists == "0-51:0-51:52-103:52-103"
    assert bind(seat(1, (), TWO), {}, {}, False, False).lists == ""
    assert count_processes({}, (), ONE, 16)[0] == 1


def test_only_cpus_that_we_may_use_count() -> None:
    """A cpuset that gives the first node alone; GPUs of the other are left where they are."""
    here = TWO._replace(allowed=frozenset(range(8)))
    seats = seat(2, gpus(TWO, 2), here)
    assert not seats.bound
    assert seats.threads == 4
    assert count_processes({}, (), here, 104)[0] == 1


def test_a_quota_is_shared_too() -> None:
    assert seat(8, gpus(TWO, 8), TWO._replace(usable=26.0)).threads == 3


def test_a_gpu_whose_place_is_not_known_stays_unbound() -> None:
    assert not seat(2, (Device("a"), Device("b")), TWO).bound


def test_torch_s_own_option_where_it_is_there() -> None:
    seats = seat(8, gpus(TWO, 8), TWO)
    bound = bind(seats, {}, {}, own_option=True, is_gpu=True)
    assert bound.option
    assert (bound.option.word, bound.lists) == ("--numa-binding=node", "")
    assert bind(seat(2, (), TWO), {}, {}, own_option=True, is_gpu=False).lists == "0-51:52-103"


@pytest.mark.parametrize("name", ["numa_binding", "run_path"])
def test_the_user_s_own_way_is_left_alone(name: str) -> None:
    bound = bind(seat(8, gpus(TWO, 8), TWO), {name: Said("1", name)}, {}, True, True)
    assert (bound.lists, bound.option) == ("", None)
    assert bool(bound.notes) == (name == "run_path")


def test_the_user_s_threads_stay() -> None:
    seats = seat(8, gpus(TWO, 8), TWO)
    assert bind(seats, {}, {"OMP_NUM_THREADS": "4"}, True, True).variables == ()


@pytest.mark.parametrize(("value", "count"), [("3", 3), ("gpu", 8), ("cpu", 104), ("auto", 8)])
def test_processes_that_the_user_asks_for(value: str, count: int) -> None:
    given = {"nproc_per_node": Said(value, "--nproc-per-node")}
    assert count_processes(given, gpus(TWO, 8), TWO, 104)[0] == count


@pytest.mark.parametrize("value", ["0", "-1", "eight", "9999999"])
def test_what_is_no_number_of_processes(value: str) -> None:
    with pytest.raises(ValueError, match="expected a number from 1"):
        count_processes({"nproc_per_node": Said(value, "--nproc-per-node")}, (), TWO, 104)


@pytest.mark.parametrize("text", ["", "0", "0-3", "0-3,8,10-11", "0,2,4"])
def test_lists_of_cpus(text: str) -> None:
    assert write_list(read_list(text)) == text


def test_nodes_are_read_from_sysfs(tmp_path: Path) -> None:
    for node, cpus in (("node10", "8-9"), ("node2", "0-7"), ("node3", "")):
        folder = tmp_path / "sys/devices/system/node" / node
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(f"{cpus}\n")
    assert sysfs.numa_cpus(tmp_path) == ("0-7", "8-9")
    assert devices.read_cpus(tmp_path).numa == (frozenset(range(8)), frozenset({8, 9}))


# --- the program between torchrun and the script --------------------------------------------------

SHOW = "import json, os, sys; print(json.dumps([sorted(os.sched_getaffinity(0)), sys.argv]))"


def run_rank(lists: str, rank: int, kind: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RANK), lists, kind, *words],
        env={**os.environ, "LOCAL_RANK": str(rank)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_a_rank_is_bound_before_the_script_begins(tmp_path: Path) -> None:
    script = tmp_path / "a b.py"
    script.write_text(SHOW)
    cpu = min(os.sched_getaffinity(0))
    done = run_rank(f"9999:{cpu}", 1, "script", str(script), "--x", "y z")
    assert json.loads(done.stdout) == [[cpu], [str(script), "--x", "y z"]]
    every = sorted(os.sched_getaffinity(0))
    assert json.loads(run_rank(f"{cpu}", 1, "script", str(script)).stdout)[0] == every


def test_a_module_and_a_program_are_started_as_they_are(tmp_path: Path) -> None:
    assert run_rank("0", 5, "module", "calendar", "2026", "1").stdout.startswith("    January 2026")
    assert run_rank("0", 5, "program", "printf", "%s", "a b").stdout == "a b"
    missing = run_rank("0", 5, "program", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert "launcher: cannot run" in missing.stderr


def test_cpus_that_are_gone_do_not_end_a_job() -> None:
    done = run_rank("9999", 0, "program", "true")
    assert done.returncode == 0
    assert done.stderr.startswith("launcher: rank 0 is not bound to CPUs 9999: ")


# The first time rank 1 fails, and torchrun starts both anew.
SHOW_TWICE = """
import json, os, sys
rank, again = os.environ["LOCAL_RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
with open(f"{sys.argv[1]}/{again}-{rank}", "w") as out:
    json.dump([sorted(os.sched_getaffinity(0)), sys.argv[2:], os.environ["MASTER_PORT"]], out)
sys.exit(rank == "1" and again == "0")
"""


def test_it_holds_on_every_rank_of_a_real_torchrun(tmp_path: Path) -> None:
    """And ranks that start anew have a store of their own, where it is asked for."""
    cpus = sorted(os.sched_getaffinity(0))
    if not TORCH.exists():
        pytest.skip("no torch: pip finds no CPU build here")
    if len(cpus) < 2:
        pytest.skip("one CPU: every rank is on it")
    script = tmp_path / "show.py"
    script.write_text(SHOW_TWICE)
    (own_store,) = choose_variables(Job(), {"max_restarts": Said("1", "--max-restarts")}, {})
    lists = f"{cpus[0]}:{cpus[1]}"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         "--max-restarts=1", str(RANK), lists, "script", str(script), str(tmp_path), "--lr", "1"],
        env={**os.environ, "PYTHONPATH": str(TORCH), "OMP_NUM_THREADS": "1",
             own_store.name: own_store.value},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ports = []
    for again in ("0", "1"):
        found = [json.loads((tmp_path / f"{again}-{rank}").read_text()) for rank in (0, 1)]
        assert [[one[0], one[1]] for one in found] == [[[cpu], ["--lr", "1"]] for cpu in cpus[:2]]
        ports += {one[2] for one in found}
    assert len(set(ports)) == 2, ports
