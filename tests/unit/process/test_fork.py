"""A forked child starts clean, answers through a pipe, and never comes back."""

from __future__ import annotations

from testing.scripts import run_script


def test_the_child_s_signals_are_as_a_shell_would_have_them() -> None:
    done = run_script("""
import os, signal
from launcher.process.fork import fork, restore_signals
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
def look():
    ours = {signal.SIGHUP, signal.SIGPIPE, signal.SIGINT}
    print([signal.getsignal(one) is signal.SIG_DFL for one in ours],
          signal.pthread_sigmask(signal.SIG_BLOCK, ()), flush=True)
    return 0
os.waitpid(fork(look), 0)
""")
    assert done.stdout == "[True, True, True] set()\n", done.stderr


def test_it_dumps_no_core_but_where_the_user_s_program_is_to_start() -> None:
    done = run_script("""
import os, resource
from launcher.process.fork import fork
resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))
def look():
    print(resource.getrlimit(resource.RLIMIT_CORE)[0], flush=True)
    return 0
os.waitpid(fork(look), 0)
os.waitpid(fork(look, core=True), 0)
""")
    assert done.stdout == "0\n4096\n", done.stderr


def test_a_huge_limit_of_files_is_lowered_and_no_other() -> None:
    done = run_script("""
import resource
from launcher.process import fork
def limited(soft, most):
    fork._FILES = most
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    fork.limit_files()
    return resource.getrlimit(resource.RLIMIT_NOFILE) == (min(soft, most), hard)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
print(limited(hard, 200), limited(200, 200), limited(100, 200))
""")
    assert done.stdout == "True True True\n", done.stderr


def test_whatever_happens_it_does_not_come_back() -> None:
    done = run_script("""
import os, sys
from launcher.process.fork import fork
def fail():
    raise SystemExit(0)
for work in (lambda: 7, fail, lambda: 1 / 0):
    print(os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1]), flush=True)
""")
    assert done.stdout == "7\n70\n70\n"
    assert "ZeroDivisionError" in done.stderr


def test_an_answer_larger_than_a_pipe_arrives_whole() -> None:
    done = run_script("""
import os
from launcher.process.fork import fork_to_answer, write_all
def answer(writer):
    write_all(writer, b"x" * 300_000)
    return 3
before = set(os.listdir("/proc/self/fd"))
pid, reader = fork_to_answer(answer)
with open(reader, "rb") as stream:
    print(len(stream.read()), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(set(os.listdir("/proc/self/fd")) - before)
""")
    assert done.stdout == "300000 3\nset()\n", done.stderr


def test_without_room_for_a_process_no_pipe_stays_open() -> None:
    done = run_script("""
import errno, os
from launcher.process import fork
def no_fork():
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
os.fork = no_fork
before = len(os.listdir("/proc/self/fd"))
try:
    fork.fork_to_answer(lambda writer: 0)
except OSError as err:
    print(err.errno == errno.EAGAIN, len(os.listdir("/proc/self/fd")) - before)
""")
    assert done.stdout == "True 0\n", done.stderr
