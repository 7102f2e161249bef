"""`docker run IMAGE CMD…`: the launcher as its init, which forwards, reaps, and leaves in time."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest

from testing.container.box import Boxes
from testing.container.engine import poll

GPUS = ("--gpus", "all")
HUNG = {"NVSIM_CONTAINER_MACHINE": "hung-init", "LAUNCHER_DETECT_TIMEOUT": "60"}
SUMMARY = re.compile(r"launcher: .*\n")


def python(source: str) -> tuple[str, ...]:
    """Return the command that runs `source` in the user's Python."""
    return ("python", "-u", "-c", source)


# --- signals ----------------------------------------------------------------------------------

REPORT_SIGNALS = """
import signal
numbers = [signal.Signals["SIG" + name] for name in "HUP INT QUIT USR1 USR2 TERM WINCH".split()]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready")
while True:
    number = signal.sigwait(numbers)
    print("got", number.name)
    if number == signal.SIGTERM:
        raise SystemExit(5)
"""


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_signals_are_forwarded_once(box: Boxes, options: Sequence[str]) -> None:
    """`docker kill -s`: each arrives, once; the status after TERM is the command's own."""
    running = box(*options, command=python(REPORT_SIGNALS))
    running.wait_for_log("ready")
    names = ["HUP", "USR1", "USR2", "WINCH", "INT", "TERM"]
    for name in names:
        running.kill(name)
        running.wait_for_log(f"got SIG{name}", timeout=5)
    assert running.wait(timeout=5) == 5
    assert re.findall(r"got SIG(\w+)", running.logs()) == names


def test_stop_ends_a_command_without_a_handler_at_once(box: Boxes) -> None:
    """As PID 1 itself it would not hear TERM at all, and Docker would wait 10 s."""
    running = box(command=["sleep", "1000"])
    running.wait_for_log(SUMMARY)
    assert poll(lambda: "sleep" in running.exec("ps", "-e").stdout, timeout=5)
    assert running.stop() < 2
    assert running.exit_code() == 128 + 15


def test_stop_ends_a_command_that_ignores_it_before_docker_does(box: Boxes) -> None:
    running = box(command=["sh", "-c", "trap '' TERM; echo ready; sleep 1000"])
    running.wait_for_log("ready")
    assert running.stop() < 10  # seconds, `docker stop`'s own patience
    assert running.exit_code() == 128 + 9
    assert "something did not stop in time and is killed" in running.logs()


SAVE_FOR_LONG = """
import signal, time
def save(*_):
    time.sleep(9)
    print("saved")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
while True:
    time.sleep(0.05)
"""


def test_a_command_that_needs_longer_gets_it_where_both_are_told(box: Boxes) -> None:
    """A checkpoint takes its time: Docker's patience and ours, each with its own setting."""
    running = box(command=python(SAVE_FOR_LONG), env={"LAUNCHER_STOP_TIMEOUT": "50"})
    running.wait_for_log("ready")
    running.stop("--time", "60")
    assert (running.exit_code(), "saved" in running.logs()) == (0, True)


SAVE_AT_TERM = """
import signal, subprocess, time
worker = subprocess.Popen(["sleep", "1000"])
def save(*_):
    time.sleep(0.3)
    print("worker ended" if worker.poll() else "worker lives")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
while True:
    time.sleep(0.05)
"""


def test_stop_leaves_a_command_its_workers(box: Boxes) -> None:
    """TERM is the command's alone: a training that still saves needs its DataLoader workers."""
    running = box(command=python(SAVE_AT_TERM))
    running.wait_for_log("ready")
    running.stop()
    assert running.exit_code() == 0
    assert "worker lives" in running.logs()


def test_an_interrupt_reaches_what_a_script_runs(box: Boxes) -> None:
    """As Ctrl-C does at a terminal: a shell only acts on it when its program has ended."""
    running = box(command=["sh", "-c", "echo ready; sleep 1000; echo rest"])
    running.wait_for_log("ready")
    assert poll(lambda: "sleep" in running.exec("ps", "-e").stdout, timeout=5)
    running.kill("INT")
    assert running.wait(timeout=5) == 128 + 2
    assert "rest" not in running.logs()


def test_a_command_may_go_on_after_an_interrupt(box: Boxes) -> None:
    """It saved, and trains on: only TERM asks a box to end."""
    source = "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('saved'))\n"
    running = box(command=python(source + "print('ready')\nwhile True: time.sleep(0.05)"))
    running.wait_for_log("ready")
    running.kill("INT")
    running.wait_for_log("saved")
    ended = poll(lambda: not running.is_running(), timeout=9, interval=0.5)
    assert not ended, running.logs()


def test_stop_before_the_command_starts(box: Boxes) -> None:
    """While the driver is still being asked."""
    running = box(*GPUS, command=["echo", "started"], env=HUNG)
    running.wait_for_log("still asking", timeout=10)
    assert running.stop() < 3
    assert running.exit_code() == 128 + 15
    assert "started" not in running.logs()


# --- what it leaves behind --------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_orphans_of_the_command_are_told_to_end(box: Boxes, options: Sequence[str]) -> None:
    """Told, not just killed with the container: what it wrote on TERM is in the output."""
    orphan = "trap 'echo the orphan ends; exit' TERM; echo > up; while :; do sleep 0.1; done"
    script = f'mkfifo up; setsid sh -c "{orphan}" & read x < up; exit 4'
    began = time.monotonic()
    done = box.run("sh", "-c", script, options=[*options, "-w", "/tmp"])
    assert (done.returncode, done.stdout) == (4, b"the orphan ends\n")
    assert time.monotonic() - began < 10


MAKE_ORPHANS = """
import glob, os, time

def zombies():
    count = 0
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            count += open(stat).read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            pass  # it has been reaped just now
    return count

for _ in range(2000):
    child = os.fork()
    if child == 0:
        os.fork()  # the grandchild loses its parent
        os._exit(0)
    os.waitpid(child, 0)
deadline = time.monotonic() + 10
while (left := zombies()) and time.monotonic() < deadline:
    time.sleep(0.05)
print(left)
"""


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_zombies_are_reaped_while_the_command_runs(box: Boxes, options: Sequence[str]) -> None:
    assert box.run(*python(MAKE_ORPHANS), options=options).stdout == b"0\n"


STOP_AN_ORPHAN = """
import os, signal, time
reader, writer = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan == 0:
        os.setsid()  # as nohup's and tmux's are
        while True:
            time.sleep(60)
    os.write(writer, str(orphan).encode())
    os._exit(0)
os.wait()
pid = int(os.read(reader, 99))
state = lambda: open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
for _ in range(20):
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.02)
    assert state() == "T", state()
print("stays stopped")
"""


def test_an_orphan_that_the_user_stops_stays_stopped(box: Boxes) -> None:
    """`kill -STOP` of a training that lost its shell: the reaper only continues the command."""
    done = box.run(*python(STOP_AN_ORPHAN))
    assert done.stdout == b"stays stopped\n", done.stderr
