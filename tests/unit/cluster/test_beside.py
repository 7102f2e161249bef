"""What stands beside a torchrun: the job's name for `launcher status`, and why a rank died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.cluster.beside import Trouble, killed_by, say_why
from launcher.detect import jobs
from launcher.model import codec
from launcher.model.job import RunningJob, Traffic
from launcher.watch import status
from testing.local_box import LAUNCHER, wait_until
from testing.values import replace

JOB = RunningJob(2, 1, 8, "gpu1", "gpu0", 29500, "Slurm", 100.0, (Traffic("eth0", 1000, 500),))
CALM = Trouble(1, {"3": {"13": 2}})
LIMIT = "the box is out of memory: its limit is 64 GiB"


@pytest.mark.parametrize(
    ("number", "now", "expected"),
    [
        (signal.SIGSEGV, CALM, "SIGSEGV"),
        (signal.SIGKILL, CALM, "SIGKILL"),
        (signal.SIGKILL, CALM._replace(kills=2),
         f"SIGKILL: the kernel killed it for want of memory, {LIMIT}"),
        (signal.SIGABRT, CALM._replace(kills=2), "SIGABRT"),
        (signal.SIGBUS, CALM, "SIGBUS: as a rule /dev/shm is full; launcher doctor says how large "
         "it is"),
        (signal.SIGABRT, Trouble(1, {"3": {"13": 2, "79": 1}}),
         "SIGABRT; meanwhile GPU 3: Xid 79: launcher doctor"),
    ],
)  # fmt: skip
def test_a_rank_that_died_says_what_of(number: int, now: Trouble, expected: str) -> None:
    assert say_why(number, CALM, now, LIMIT) == expected


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, 0])
def test_torchrun_may_have_heard_of_it_before_us(number: int) -> None:
    process = subprocess.Popen(["sh", "-c", f"kill -{number} $$; exit 3"])
    descriptor = os.pidfd_open(process.pid)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert killed_by(process.pid, descriptor) == (number or None)
    process.wait()
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 15):
        assert killed_by(process.pid, descriptor) == (number or None)
    os.close(descriptor)


# A torchrun that starts two ranks, as often as it is told; the second dies of the signal that it is
# told, and then it kills the first.  It waits until what stands beside it has seen each of it: that
# has a pidfd of the torchrun and of each rank, and tells of deaths on its command line.
TORCHRUN = """
import glob, os, subprocess, sys, time
rank = "import os, sys; input(); os.kill(os.getpid(), int(sys.argv[1])); input()"

def beside():
    children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
    lines = ((pid, open(f"/proc/{pid}/cmdline").read()) for pid in children)
    return next((one for one in lines if "launcher.cluster.beside" in one[1]), ("0", ""))

def wait(ranks, deaths):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pid, line = beside()
        try:
            held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:  # it becomes itself anew
            held = []
        known = line.count('"who"') >= deaths
        if known and sum("pidfd" in target for target in held) == 1 + ranks:
            return
        time.sleep(0.02)
    sys.exit("it was not seen")

*_, number, rounds = sys.argv
if rounds == "at once":  # it is dead before anybody could ask whose it was
    one = subprocess.Popen(["sh", "-c", f"kill -{number} $$"])
    os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)
    wait(0, 1)
    one.wait()
    sys.exit(7)
told = number == "11"
for round in range(int(rounds)):
    ranks = [
        subprocess.Popen([sys.executable, "-c", rank, number], stdin=subprocess.PIPE, env={
            **os.environ, "TORCHELASTIC_RUN_ID": "none", "RANK": str(2 + n), "LOCAL_RANK": str(n)})
        for n, number in enumerate(("0", number))
    ]
    wait(2, told * round)
    ranks[1].stdin.write(b"\\n")
    ranks[1].stdin.flush()
    wait(1, told * (1 + round))
    ranks[0].kill()
    wait(0, told * (1 + round))
    for one in ranks:
        one.wait()
sys.stdin.readline()
sys.exit(7)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "bin" / "torchrun"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{TORCHRUN}")
    program.chmod(0o755)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "",
        "LAUNCHER_RUN_DIR": "/nonexistent/run",
    }  # fmt: skip


def start(environment: dict[str, str], number: int, rounds: int | str) -> subprocess.Popen[str]:
    words = ["torchrun", "--nnodes=2", "--node-rank=1", "--master-addr=127.0.0.1", "x.py"]
    return subprocess.Popen(
        [*LAUNCHER, *words, str(number), str(rounds)], env=environment, stdin=subprocess.PIPE,
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


@pytest.fixture
def started(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = start(environment, signal.SIGSEGV, rounds=2)
    yield process
    process.kill()
    process.communicate()


def status_of(environment: dict[str, str], *words: str) -> str:
    command = [*LAUNCHER, "status", *words]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_a_job_is_named_while_it_runs(
    started: subprocess.Popen[str], environment: dict[str, str]
) -> None:
    """And which of its ranks died: of each round the first, since torchrun kills the others."""

    def found() -> list[jobs.Found]:
        return [one for one in jobs.read_jobs() if one.pid == started.pid]

    ((pid, job),) = wait_until(found, "nobody names the job")
    assert (job.nodes, job.rank, job.master, job.port) == (2, 1, "127.0.0.1", 29500)

    def have_died() -> bool:
        """Nothing is there for the moment in which its process takes another command line."""
        return [len(one.job.deaths) for one in found()] == [2]

    wait_until(have_died, "nobody says that a rank died", 60)
    assert "ago rank 3 (local rank 1, pid " in status_of(environment)
    jobs_there = json.loads(status_of(environment, "--json"))["jobs"]
    own = [one for one in jobs_there if one["pid"] == pid]
    assert [(one["rank"], one["nodes"], one["processes"] >= 1) for one in own] == [(1, 2, True)]
    assert [death["by"] for death in own[0]["deaths"]] == ["SIGSEGV"] * 2
    first, second = (death["ago"] for death in own[0]["deaths"])
    assert first > second > 0
    _, said = started.communicate("\n", timeout=60)
    assert started.returncode == 7, "the torchrun's own"
    lines = [line for line in said.splitlines() if " was killed by " in line]
    assert len(lines) == 2, said
    for line in lines:
        assert line.startswith("launcher: rank 3 (local rank 1, pid ")
        assert line.endswith(") on node 1 of 2 (" + job.hostname + ") was killed by SIGSEGV")
    wait_until(lambda: not found(), "it outlived its torchrun")


def test_a_rank_that_dies_at_once_is_seen(environment: dict[str, str]) -> None:
    """A CPU that lacks an instruction of the first import, or no memory for it."""
    process = start(environment, signal.SIGILL, rounds="at once")
    _, said = process.communicate(timeout=90)
    assert process.returncode == 7, said
    (line,) = (line for line in said.splitlines() if " was killed by " in line)
    assert line.startswith("launcher: a rank (pid ")
    assert " on node 1 of 2 (" in line
    assert line.endswith(") was killed by SIGILL")


def test_who_stops_a_rank_is_not_told_of_it(environment: dict[str, str]) -> None:
    process = start(environment, signal.SIGTERM, rounds=1)
    _, said = process.communicate("\n", timeout=90)
    assert process.returncode == 7, said
    assert "(local rank 1, " not in said


# --- what `launcher status` makes of it -------------------------------------------------------


def command_line(root: Path, pid: int, *words: str) -> None:
    folder = root / "proc" / str(pid)
    folder.mkdir(parents=True)
    (folder / "cmdline").write_bytes("\0".join(words).encode() + b"\0")


def test_what_is_no_job_is_none(tmp_path: Path) -> None:
    ours = ("python", "-I", "-m", jobs.MODULE)
    text = codec.to_json(JOB)
    command_line(tmp_path, 1, *ours, "41", text)
    command_line(tmp_path, 2, *ours, "42", codec.to_json(replace(JOB, began=1.0)))
    for number, rest in enumerate((("x", text), ("43", "{"), ("43", "7"), ("43", "[" * 3000), ())):
        command_line(tmp_path, 10 + number, *ours, *rest)
    command_line(tmp_path, 20, "grep", "a", "b", "c", "d", jobs.MODULE, "1", text)
    assert [(one.pid, one.job.began) for one in jobs.read_jobs(tmp_path)] == [
        (42, 1.0),
        (41, 100.0),
    ]


def test_traffic_of_interfaces_and_of_ports(tmp_path: Path) -> None:
    counters = {
        "sys/class/net/eth0/statistics": {"rx_bytes": "1200", "tx_bytes": "800"},
        "sys/class/infiniband/mlx5_0/ports/1/counters": {
            "port_rcv_data": "100", "port_xmit_data": "50",
        },
    }  # fmt: skip
    for folder, files in counters.items():
        (tmp_path / folder).mkdir(parents=True)
        for name, value in files.items():
            (tmp_path / folder / name).write_text(f"{value}\n")
    names = ("eth0", "mlx5_0:1", "eth9", "../../../proc/1")
    assert jobs.read_traffic(names, tmp_path) == (
        Traffic("eth0", 1200, 800), Traffic("mlx5_0:1", 400, 200),
    )  # fmt: skip


def test_the_row_of_a_job() -> None:
    now = (Traffic("eth0", 2_000_001_000, 1_000_000_500),)
    earlier = (Traffic("eth0", 1_970_001_000, 1_000_000_500),)
    row = status.Job(41, JOB, tuple(status.moved(JOB.before, now)),
                     tuple(status.moved(earlier, now, 0.25)))  # fmt: skip
    lines = list(status.job_lines((row,), 3700.0))
    assert lines == [
        " torchrun       running       41  1 h 0 min",
        "   node 1 of 2 (gpu1), Slurm: 8 processes, master gpu0:29500",
        "   eth0: received 2 GB, sent 1 GB; now 120 MB/s in, 0 B/s out",
    ]
    alone = row._replace(job=RunningJob(1, None, 8, "box", began=100.0), total=(), rates=())
    assert [*status.job_lines((alone,), 160.0)][1:] == ["   on this machine: 8 processes"]
    (data,) = status.jobs_as_data((row,), 3700.0)
    assert data["network"]["eth0"]["received_per_second"] == 120_000_000
