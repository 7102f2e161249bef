"""PID 1's loop with real processes.  It changes the process it is in, so each runs in its own.

A script here begins with a box that is a subreaper, as on a plain machine.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from launcher.process.init import describe_end, exit_code
from testing.scripts import run_script, signal_masks

BOX = """
import os, signal, sys, time
from launcher.process.init import Init, STOP, Stopped
from launcher.process.pump import Pump
box = Init(Pump(2))
"""


def run_box(code: str, *arguments: object, timeout: float = 30) -> list[str]:
    """Run a script on a box; return the lines it printed."""
    done = run_script(BOX + code, *arguments, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def status_of(code: str) -> int:
    """Return the wait status of a real process."""
    pid = os.fork()
    if pid == 0:
        exec(code)
        os._exit(99)
    return os.waitpid(pid, 0)[1]


# --- statuses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "number", "words"),
    [
        ("os._exit(0)", 0, "exit status 0"),
        ("os._exit(3)", 3, "exit status 3"),
        ("os._exit(255)", 255, "exit status 255"),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "killed by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143, "killed by SIGTERM"),
        ("os.kill(os.getpid(), 40)", 168, "killed by signal 40"),  # a real-time signal
    ],
)
def test_how_a_process_ended(code: str, number: int, words: str) -> None:
    status = status_of(code)
    assert exit_code(status) == number
    assert describe_end(status) == words


# --- children with an answer -----------------------------------------------------------------


def test_a_childs_answer_is_its_bytes() -> None:
    assert run_box("""
child = box.fork(lambda: b"hello")
print(box.wait_for(child, 10), child.status, bytes(child.answer))
""") == ["True 0 b'hello'"]


def test_an_answer_that_fills_the_pipe_many_times_is_read_meanwhile() -> None:
    assert run_box("""
child = box.fork(lambda: bytes(range(256)) * 4096)
print(box.wait_for(child, 20), child.answer == bytes(range(256)) * 4096)
""") == ["True True"]


def test_the_end_of_the_child_counts_not_that_of_the_pipe() -> None:
    # A driver library may leave a process behind that holds our pipe open.
    begin = time.monotonic()
    lines = run_box("""
def work():
    if os.fork() == 0:
        time.sleep(60)
    return b"done"
child = box.fork(work)
print(box.wait_for(child, 30), child.answer)
box.end_stragglers()
""")
    assert lines == ["True bytearray(b'done')"]
    assert time.monotonic() - begin < 20


def test_a_child_that_crashes_is_a_status() -> None:
    lines = run_box("""
import ctypes
child = box.fork(lambda: ctypes.string_at(0))
print(box.wait_for(child, 10), os.WTERMSIG(child.status), bytes(child.answer))
""")
    assert lines == [f"True {int(signal.SIGSEGV)} b''"]


def test_a_childs_error_of_ours_is_its_answer_and_its_code() -> None:
    assert run_box("""
from launcher.model.errors import BadSetting
def work():
    raise BadSetting("this \\udcff and that")
child = box.fork(work)
box.wait_for(child, 10)
print(os.waitstatus_to_exitcode(child.status), bytes(child.answer))
""") == ["78 b'this ? and that'"]


def test_an_error_that_is_not_ours_is_printed_and_ends_the_child_alone() -> None:
    done = run_script(f"""{BOX}
child = box.fork(lambda: 1 // 0)
box.wait_for(child, 10)
print(os.waitstatus_to_exitcode(child.status))
""")
    assert done.stdout == "70\n"
    assert "ZeroDivisionError" in done.stderr


def test_a_child_that_hangs_is_given_up_at_the_timeout() -> None:
    assert run_box("""
child = box.fork(lambda: time.sleep(60))
begin = time.monotonic()
print(box.wait_for(child, 0.3), 0.2 < time.monotonic() - begin < 5)
box.abandon(child)
print(box.wait_for(child, 10), os.WTERMSIG(child.status))
""") == ["False True", "True 9"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_stop_is_heard_while_waiting(name: str) -> None:
    assert run_box("""
child = box.fork(lambda: time.sleep(60))
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
try:
    box.wait_for(child, 30)
except Stopped as stop:
    print(signal.Signals(stop.number).name)
box.end_stragglers()
""", name) == [name]  # fmt: skip


def test_another_signal_waits_for_its_turn() -> None:
    assert run_box("""
child = box.fork(lambda: b"")
os.kill(os.getpid(), signal.SIGHUP)
print(box.wait_for(child, 10), box.next_signal(0) == signal.SIGHUP)
""") == ["True True"]


# --- what a child begins with ----------------------------------------------------------------


@pytest.mark.parametrize("door", ["fork", "spawn"])
def test_a_child_begins_with_no_signal_blocked_or_ignored(door: str) -> None:
    lines = run_box("""
import resource
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
def work():
    status = open("/proc/self/status").read()
    print(*(line for line in status.splitlines() if line[:6] in ("SigBlk", "SigIgn")))
    print(resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)
    return b"" if sys.argv[1] == "fork" else 0
if sys.argv[1] == "fork":
    box.wait_for(box.fork(work), 10)
else:
    box.run_until_end(box.spawn(work), print)
""", door)  # fmt: skip
    assert signal_masks(lines[0]) == [0, 0]
    assert lines[1] == "0"


# --- reaping ---------------------------------------------------------------------------------


def test_orphans_are_reaped_and_not_remembered() -> None:
    assert run_box("""
def leave_orphans():
    for _ in range(100):
        if os.fork() == 0:
            os._exit(os.fork() and 0)
    return 0
main = box.spawn(lambda: (leave_orphans(), time.sleep(0.5))[1] or 5)
print(os.waitstatus_to_exitcode(box.run_until_end(main, print)))
deadline = time.monotonic() + 10
from launcher.process.tree import descendants
while descendants() and time.monotonic() < deadline:
    box.next_signal(0.05)
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
print(children, len(box._ended))
""") == ["5", "[] 1"]


def test_whoever_is_left_at_the_end_is_ended() -> None:
    begin = time.monotonic()
    lines = run_box("""
from launcher.process.tree import descendants
def ignore_term():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(ready, b"x")
    time.sleep(60)
    return 0
reader, ready = os.pipe()
box.spawn(ignore_term)
box.spawn(lambda: time.sleep(60) or 0)
os.read(reader, 1)
print(len(descendants()))
box.end_stragglers()
print(len(descendants()))
""")
    assert lines == ["2", "0"]
    assert time.monotonic() - begin < 10


def test_who_cannot_be_killed_is_named_once(tmp_path: Path) -> None:
    """As one whom a GPU's driver does not let go of; here nobody is killed, to the same effect."""
    os.mkfifo(tmp_path / "fifo")
    done = run_script(f"""{BOX}
from launcher.process import init, tree
from launcher.process.tree import held
init.kill_descendants = lambda number: None
box.stop_timeout = init._DYING = 0.2
def hold():  # posix_spawn(3) suspends its parent until the child has become another program
    actions = [(os.POSIX_SPAWN_OPEN, 0, {str(tmp_path / "fifo")!r}, os.O_RDONLY, 0)]
    os.posix_spawn("/bin/true", ["true"], {{}}, file_actions=actions)
    return 0
main = box.spawn(hold)
while not held():
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGTERM)
def let_go():
    time.sleep(1.5)
    open({str(tmp_path / "fifo")!r}, "w").close()
    return 0
box.spawn(let_go)
box.run_until_end(main, lambda number: None)
box.end_stragglers()
print(main)
""")
    pid = done.stdout.strip()
    (line,) = [one for one in done.stderr.splitlines() if "the kernel holds" in one]
    assert line.startswith(f"launcher: the kernel holds pid {pid} (python")
    assert done.stderr.count("did not stop in time") == 1


# --- stopping --------------------------------------------------------------------------------


def test_a_stop_is_handed_on_and_the_status_kept() -> None:
    assert run_box("""
main = box.spawn(lambda: signal.pause() or 0)
os.kill(os.getpid(), signal.SIGTERM)
seen = []
status = box.run_until_end(main, lambda number: (seen.append(number), os.kill(main, number)))
print([signal.Signals(n).name for n in seen], os.WTERMSIG(status), box.stopping)
""") == ["['SIGTERM'] 15 True"]


def test_what_does_not_stop_is_killed_at_the_deadline() -> None:
    begin = time.monotonic()
    done = run_script(f"""{BOX}
box.stop_timeout = 0.5
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return 0
main = box.spawn(stubborn)
os.kill(os.getpid(), signal.SIGTERM)
print(os.WTERMSIG(box.run_until_end(main, lambda number: None)))
""")
    assert done.stdout == "9\n"
    assert "did not stop in time" in done.stderr
    assert time.monotonic() - begin < 8


def test_a_second_stop_a_second_later_does_not_wait_for_the_deadline() -> None:
    done = run_script(f"""{BOX}
import threading
def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return 0
main = box.spawn(stubborn)
if os.fork() == 0:  # a person who presses twice at once, and once more later
    for pause in (0, 0.1, 1.2):
        time.sleep(pause)
        os.kill(os.getppid(), signal.SIGTERM)
    os._exit(0)
begin = time.monotonic()
print(os.WTERMSIG(box.run_until_end(main, lambda number: None)))
print(1 < time.monotonic() - begin < 6)
""")
    assert done.stdout == "9\nTrue\n", done.stderr


def test_other_signals_are_handed_on_and_stop_nothing() -> None:
    assert run_box("""
main = box.spawn(lambda: time.sleep(0.5) or 7)
for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH):
    os.kill(os.getpid(), number)
seen = set()
status = box.run_until_end(main, seen.add)
print(sorted(signal.Signals(n).name for n in seen), os.waitstatus_to_exitcode(status), box.stopping)
""") == ["['SIGHUP', 'SIGUSR1', 'SIGWINCH'] 7 False"]


def test_what_cannot_be_done_about_a_signal_ends_nothing() -> None:
    done = run_script(f"""{BOX}
import errno
main = box.spawn(lambda: time.sleep(0.5) or 7)
def no_fork(number):
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
os.kill(os.getpid(), signal.SIGHUP)
print(os.waitstatus_to_exitcode(box.run_until_end(main, no_fork)))
""")
    assert done.stdout == "7\n"
    assert "launcher: cannot act on SIGHUP: no more processes" in done.stderr


def test_what_is_stopped_hears_of_the_end() -> None:
    begin = time.monotonic()
    assert run_box("""
def stopped():
    signal.signal(signal.SIGTERM, lambda *_: os._exit(5))
    os.kill(os.getpid(), signal.SIGSTOP)
    while True:  # a signal between two of Python's looks is seen at the next one
        time.sleep(0.05)
main = box.spawn(stopped)
os.waitid(os.P_PID, main, os.WSTOPPED | os.WNOWAIT)
os.kill(os.getpid(), signal.SIGTERM)
print(os.waitstatus_to_exitcode(box.run_until_end(main, lambda number: os.kill(main, number))))
""") == ["5"]
    assert time.monotonic() - begin < 7
