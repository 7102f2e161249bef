"""Command mode, end to end on this machine: `python entrypoint.py CMD…` with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import __version__
from testing.local_box import ENTRYPOINT, USER, wait_until
from testing.scripts import signal_masks

pytestmark = pytest.mark.long


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a command in a box; whatever is left at the end of the test is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*command: str, env: dict[str, str] | None = None, **options) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*ENTRYPOINT, *command],
            env={**os.environ, "LAUNCHER_QUIET": "1", "NB_USER": USER, **(env or {})},
            cwd=options.pop("cwd", tmp_path),
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(start) -> Callable[..., tuple[int, str, str]]:
    """Run a command in a box to its end; return its status and both outputs."""

    def run(*command: str, **options) -> tuple[int, str, str]:
        process = start(*command, **options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()

    return run


# --- what was meant for somebody else --------------------------------------------------------


@pytest.mark.parametrize("asked", ["--help", "-h", "help"])
def test_who_asks_what_can_be_run_is_told(run, asked: str) -> None:
    status, out, err = run(asked)
    assert (status, err) == (0, "")
    assert "docker run --rm --gpus all IMAGE python train.py" in out
    assert "launcher settings" in out
    assert max(map(len, out.splitlines())) <= 80
    assert out == run(asked, "whatever")[1]


def test_the_version_is_told(run) -> None:
    status, out, _ = run("--version")
    assert (status, out.split()[:2]) == (0, ["launcher", __version__])


@pytest.mark.parametrize("command", [["-p", "8888:8888"], ["--gpus", "all"], ["--debug"]])
def test_an_option_of_the_engine_s_behind_the_image_is_told(run, command: list[str]) -> None:
    status, _, err = run(*command)
    assert status == 127
    assert (
        f"cannot run {command[0]!r}: it is an option and no program: options of the engine" in err
    )


# --- exit statuses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 3"), 3),
        (("sh", "-c", "exit 255"), 255),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("sh", "-c", "kill -KILL $$"), 137),
        (("sh", "-c", "kill -40 $$"), 168),
        (("/etc/passwd",), 126),
        (("/",), 126),
        (("no-such-command",), 127),
        (("/no/such/path",), 127),
        (("",), 127),
    ],
)
def test_the_commands_status_is_the_boxs(run, command: tuple[str, ...], status: int) -> None:
    returned, out, err = run(*command)
    assert returned == status
    assert out == ""
    assert (f"launcher: cannot run {command[0]!r}" in err) == (status in (126, 127))


# --- what the command gets -------------------------------------------------------------------


def test_arguments_arrive_as_they_were_given(run) -> None:
    arguments = ["two words", "", "-x", "--help", "'\"$HOME", "×"]
    _, out, _ = run("printf", "%s\\n", *arguments)
    assert out.split("\n")[:-1] == arguments


def test_standard_input_is_the_commands(run, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"hello\n")
    with (tmp_path / "in").open("rb") as stdin:
        assert run("cat", stdin=stdin)[1] == "hello\n"


def test_the_working_directory_is_the_callers(run, tmp_path: Path) -> None:
    assert run("pwd", cwd=tmp_path)[1].strip() == str(tmp_path)


def test_no_signal_is_blocked_or_ignored(run) -> None:
    _, out, _ = run("grep", "-E", "SigBlk|SigIgn", "/proc/self/status")
    assert signal_masks(out) == [0, 0]


def test_it_leads_a_process_group_of_its_own(run) -> None:
    # In ours, Ctrl-C would arrive twice.
    code = "import os; print(os.getpgrp() == os.getpid())"
    assert run(sys.executable, "-c", code)[1] == "True\n"


def test_no_descriptor_of_ours_is_left_open(run) -> None:
    _, out, _ = run("ls", "/proc/self/fd")
    assert {int(fd) for fd in out.split()} <= {0, 1, 2, 3}  # 3 is ls's own


def test_the_planned_devices_are_in_its_environment(run, simulated) -> None:
    _, out, _ = run("env", env=simulated("rtx3090-2x-nvlink"))
    assert {"CUDA_VISIBLE_DEVICES=0,1", "CUDA_DEVICE_ORDER=PCI_BUS_ID"} <= set(out.splitlines())


def test_a_megabyte_passes_through(run) -> None:
    assert len(run("head", "-c", "1000000", "/dev/zero")[1]) == 1_000_000


# --- the one line ----------------------------------------------------------------------------


def test_one_line_on_standard_error_says_what_was_found(run, simulated) -> None:
    env = {**simulated("h100-8x"), "LAUNCHER_QUIET": "0"}
    status, out, err = run("echo", "hi", env=env)
    assert (status, out) == (0, "hi\n")
    (line,) = err.splitlines()
    assert "8 × NVIDIA H100 80GB HBM3" in line
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in line


def test_who_wants_no_gpu_does_not_wait_for_the_driver(run, simulated) -> None:
    wish = {"LAUNCHER_GPUS": "none", "LAUNCHER_DETECT_TIMEOUT": "86400", "LAUNCHER_QUIET": "0"}
    status, out, err = run("env", env={**simulated("hung-init"), **wish})
    assert status == 0
    assert "CUDA_VISIBLE_DEVICES=" in out.splitlines()
    assert err == "launcher: no GPU, as LAUNCHER_GPUS=none asks; CUDA_VISIBLE_DEVICES=\n"


def test_quiet_means_no_line(run) -> None:
    assert run("true")[2] == ""


def test_a_bad_setting_starts_nothing(run) -> None:
    status, out, err = run("echo", "hi", env={"LAUNCHER_GPUS": "banana"})
    assert (status, out) == (78, "")
    assert "LAUNCHER_GPUS='banana'" in err


def test_gpus_that_are_required_and_missing(run, simulated) -> None:
    env = {**simulated("mismatch"), "LAUNCHER_REQUIRE_GPU": "1"}
    status, out, err = run("echo", "hi", env=env)
    assert (status, out) == (69, "")
    assert "fix:" in err


# --- a good init -----------------------------------------------------------------------------


def test_orphans_are_reaped_while_the_command_runs(run) -> None:
    code = """
import os, subprocess, time
for _ in range(5):
    if os.fork() == 0:
        os.fork() or os._exit(0)
        os._exit(0)
deadline = time.monotonic() + 10
while True:
    box = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
    try:
        states = [open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
                  for pid in open(box).read().split()]
    except OSError:  # reaped between the two looks
        continue
    if "Z" not in states:
        print("clean")
        break
    if time.monotonic() > deadline:
        print(states)
        break
    time.sleep(0.05)
for _ in range(5):
    os.wait()
"""
    assert run(sys.executable, "-c", code)[1] == "clean\n"


def test_what_the_command_leaves_behind_is_ended(run) -> None:
    marker = str(200_000 + os.getpid())  # a duration by which we know our sleep again
    begin = time.monotonic()
    assert run("sh", "-c", f"setsid sleep {marker} >/dev/null 2>&1 & exit 4")[0] == 4
    assert time.monotonic() - begin < 20
    assert subprocess.run(["pgrep", "-fx", f"sleep {marker}"]).returncode == 1


# Not what only a terminal sends, nor what a handler of Python's cannot see.
EVERY = sorted(
    number.name
    for number in signal.Signals
    if number.name
    not in {
        "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCHLD", "SIGCLD",
        "SIGFPE", "SIGILL", "SIGSEGV", "SIGBUS",
    }
)  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_signals_reach_the_command_once(start, name: str) -> None:
    code = (
        "import signal, sys, time\n"
        "seen = []\n"
        f"signal.signal(signal.{name}, lambda n, f: seen.append(n))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.3)  # where it comes twice, the second is a moment later\n"
        "sys.exit(40 + len(seen))"
    )
    process = start(sys.executable, "-c", code)
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, name))
    assert process.wait(30) == 41


def test_a_stop_ends_a_command_that_handles_nothing(start) -> None:
    process = start("sh", "-c", "echo ready; sleep 100 & wait")
    assert process.stdout.readline() == b"ready\n"
    begin = time.monotonic()
    process.terminate()
    assert process.wait(30) == 143
    assert time.monotonic() - begin < 5


def test_a_stop_before_the_command_has_started(start, simulated) -> None:
    process = start("echo", "hi", env={**simulated("hung-init"), "LAUNCHER_QUIET": "0"})
    wait_until(lambda: children(process), "PID 1 asks the driver")
    process.terminate()
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, b"")


def children(process: subprocess.Popen[bytes]) -> str:
    """Return the pids of its children: it listens for signals before it has the first.

    Its signal mask does not tell: the kernel shows none while a process is in sigtimedwait(2).
    """
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
