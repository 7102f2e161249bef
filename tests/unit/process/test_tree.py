"""Who is in the box, from /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.process.tree import descendants, end_orphaned_kernels, held, kill
from testing.local_box import wait_until
from testing.scripts import run_script


def test_descendants_of_every_generation_are_found() -> None:
    # In a process of its own: the test run's has descendants already (a container engine).
    done = run_script("""
        import os, signal
        from launcher.process.tree import descendants
        reader, ready = os.pipe()
        child = os.fork()
        if child == 0:
            grandchild = os.fork()
            if grandchild:
                os.write(ready, str(grandchild).encode())
            signal.pause()
        grandchild = int(os.read(reader, 20))
        found = set(descendants())
        for pid in (grandchild, child):
            os.kill(pid, signal.SIGKILL)
        print(found == {child, grandchild})
    """)
    assert done.stdout == "True\n", done.stderr


def test_a_zombie_is_nobody() -> None:
    child = subprocess.Popen(["true"])
    stat = Path(f"/proc/{child.pid}/stat")
    try:
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "its end")
        assert child.pid not in descendants()
    finally:
        child.wait()


# Waits in the kernel, in state D, until the fifo has a writer: for its child, which waits for that
# before it becomes another program.  posix_spawn(3) is a vfork, which suspends the parent.
HELD = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[
    (os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


def test_what_the_kernel_holds_is_named(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holding = subprocess.Popen([sys.executable, "-c", HELD, str(fifo)])
    try:
        name = f"pid {holding.pid} (python"
        wait_until(lambda: [one for one in held() if one.startswith(name)], lambda: str(held()))
        fifo.open("w").close()
        holding.wait()
        assert not [one for one in held() if one.startswith(name)]
    finally:
        holding.kill()


def test_only_who_is_stopped_is_continued() -> None:
    done = run_script("""
        import os, signal
        from launcher.process.tree import wake_stopped
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCONT, signal.SIGWINCH})
        def child(stops):
            pid = os.fork()
            if pid == 0:
                if stops:
                    os.kill(os.getpid(), signal.SIGSTOP)
                heard = signal.sigwait({signal.SIGCONT, signal.SIGWINCH})
                os._exit(0 if heard == signal.SIGCONT else 1)
            return pid
        runs, stopped = child(False), child(True)
        os.waitid(os.P_PID, stopped, os.WSTOPPED | os.WNOWAIT)
        wake_stopped()
        os.kill(runs, signal.SIGWINCH)
        print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in (runs, stopped)])
    """)
    assert done.stdout == "[1, 0]\n", done.stderr


def test_a_name_with_brackets_and_spaces_confuses_nobody() -> None:
    # /proc/PID/stat puts the name in brackets, and a name may have brackets: proc_pid_stat(5).
    done = run_script("""
        import ctypes, os, signal
        from launcher.process.tree import descendants
        reader, ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            ctypes.CDLL(None).prctl(15, b"a) R 1 (b", 0, 0, 0)  # PR_SET_NAME
            os.write(ready, b"x")
            signal.pause()
        os.read(reader, 1)
        print(descendants() == [pid])
        os.kill(pid, signal.SIGKILL)
    """)
    assert done.stdout == "True\n", done.stderr


def test_signalling_who_has_gone_is_no_error() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    kill(child.pid, signal.SIGTERM)


def test_we_are_not_among_our_descendants() -> None:
    assert os.getpid() not in descendants()


# --- kernels whose Jupyter is gone -----------------------------------------------------------

MARK = "JUPYTER_RUNTIME_DIR=/run/box's own/jupyter"


@pytest.fixture
def kernel() -> Iterator[Callable[..., subprocess.Popen]]:
    """Return a way to start what looks like a kernel; all are ended with the test."""
    started: list[subprocess.Popen] = []

    def start(parent: int | str, mark: str = MARK) -> subprocess.Popen:
        name, _, value = mark.partition("=")
        env = {name: value, "JPY_PARENT_PID": str(parent), "PATH": os.environ["PATH"]}
        started.append(subprocess.Popen(["sleep", "1000"], env=env, start_new_session=True))
        environ = Path(f"/proc/{started[-1].pid}/environ")
        wait_until(lambda: os.fsencode(mark) in environ.read_bytes(), "its exec")
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def gone() -> int:
    """Return the pid of a process that is not there any more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_orphaned_kernels_of_our_jupyter_end_and_nothing_else(kernel) -> None:
    orphan = kernel(gone())
    others = kernel(gone(), mark="JUPYTER_RUNTIME_DIR=/run/box's own/jupyter2")
    living = kernel(os.getppid())
    # That number is ours now, so the Jupyter that had it is gone.
    same_number = kernel(os.getpid())
    end_orphaned_kernels(MARK)
    assert orphan.wait(10) == -signal.SIGKILL
    assert same_number.wait(10) == -signal.SIGKILL
    assert (others.poll(), living.poll()) == (None, None)
