"""The order of things, where a moment between two stages matters; each script is a box of its own.

From end to end it is met in test_command and test_box.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from launcher.cli.place import for_this_place
from testing.scripts import ROOT, run_script

BOX = """
import os, signal, time
from launcher.pid1 import boot, start, supervisor
from launcher.process.init import Init
from launcher.process.pump import Pump
box = Init(Pump(2))
"""


def test_a_reload_while_supervise_starts_is_not_its_end() -> None:
    # HUP would kill it until supervisor has its own handler.
    done = run_script(f"""{BOX}
supervisor = supervisor.Supervisor(box)
pid = supervisor.pid
def ignores_hup():
    status = open(f"/proc/{{pid}}/status").read()
    return int(status.partition("SigIgn:")[2].split()[0], 16) & 1
deadline = time.monotonic() + 10
while not ignores_hup() and time.monotonic() < deadline:
    time.sleep(0.01)
os.kill(pid, signal.SIGHUP)
supervisor.go("")
print(os.waitstatus_to_exitcode(box.run_until_end(pid, print)))
""")
    assert done.stdout == "0\n", done.stderr


def test_supervise_ends_by_itself_where_there_is_no_word_to_start() -> None:
    done = run_script(f"""{BOX}
supervisor = supervisor.Supervisor(box)
supervisor.go("")
print(os.waitstatus_to_exitcode(box.run_until_end(supervisor.pid, print)))
""")
    assert done.stdout == "0\n", done.stderr


def test_supervise_that_was_killed_before_the_word_is_the_boxs_end() -> None:
    """While a hook takes its time, say."""
    done = run_script(f"""{BOX}
supervisor = supervisor.Supervisor(box)
os.kill(supervisor.pid, signal.SIGKILL)
box.wait_for(box.fork(lambda: time.sleep(0.1) or b""), 10)
supervisor.go("/run/launcher")
print(os.waitstatus_to_exitcode(box.run_until_end(supervisor.pid, print)))
""")
    assert done.stdout == "-9\n", done.stderr


def test_what_a_child_cannot_do_is_the_boxs_end_with_its_reason() -> None:
    done = run_script(f"""{BOX}
from launcher.model.errors import BadSetting, LauncherError, StartFailed
def bad():
    raise BadSetting("cannot write /run: Read-only file system")
def failed():
    raise StartFailed("a hook failed")
for work in (bad, failed, lambda: os.abort()):
    try:
        start._answer(box, box.fork(work), "write its files")
    except LauncherError as err:
        print(err.exit_code, err)
""")
    assert done.stdout.splitlines() == [
        "78 cannot write /run: Read-only file system",
        "70 a hook failed",
        "70 cannot write its files: killed by SIGABRT",
    ]


def test_a_disk_that_does_not_answer_is_the_boxs_end() -> None:
    done = run_script(f"""{BOX}
from launcher.model.errors import StartFailed
try:
    start._answer(box, box.fork(lambda: time.sleep(60)), "open its state", 0.2)
except StartFailed as err:
    print(err)
box.end_stragglers()
""")
    assert done.stdout == "cannot open its state: no answer within 0.2 s; is the disk well?\n"


def test_a_supervise_that_ended_already_is_found_so() -> None:
    done = run_script(f"""{BOX}
supervisor = supervisor.Supervisor(box)
os.kill(supervisor.pid, signal.SIGKILL)
os.waitid(os.P_PID, supervisor.pid, os.WEXITED | os.WNOWAIT)
supervisor.go("/run/launcher")
print(os.waitstatus_to_exitcode(box.run_until_end(supervisor.pid, print)))
""")
    assert done.stdout == "-9\n", done.stderr


def test_outputs_that_were_closed_take_everything() -> None:
    done = run_script("""
import os
from launcher.pid1 import boot, supervisor
answer = os.dup(1)
for fd in (0, 1, 2):
    os.close(fd)
boot.provide_standard_streams()
seen = [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)]
os.write(answer, repr((seen, os.get_inheritable(2))).encode())
""")
    assert done.stdout == repr((3 * ["/dev/null"], True))


def test_outputs_that_are_open_stay() -> None:
    done = run_script("""
from launcher.pid1 import boot, supervisor
boot.provide_standard_streams()
print("here")
""")
    assert done.stdout == "here\n"


def test_a_box_that_may_not_fork_says_who_allows_it() -> None:
    done = run_script("""
import errno, os, sys, time
from launcher.pid1 import boot, supervisor
def no_fork():
    raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
os.fork = no_fork
sys.exit(boot.be_the_box([], time.monotonic()))
""")
    assert done.returncode == 78
    assert "launcher: cannot start: no more processes" in done.stdout
    assert for_this_place("docker run --pids-limit=-1 …") in done.stdout
    assert done.stderr == ""


def test_a_stop_during_the_imports_is_kept_until_it_can_be_heard(tmp_path: Path) -> None:
    (tmp_path / "launcher/cli").mkdir(parents=True)
    (tmp_path / "launcher/__init__.py").touch()
    (tmp_path / "launcher/cli/__init__.py").touch()
    (tmp_path / "launcher/cli/main.py").write_text("""
import os, signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
    os.kill(os.getpid(), number)
def entrypoint(argv, started):
    print(sorted(number.name for number in signal.sigpending()))
""")
    shutil.copy(ROOT / "entrypoint.py", tmp_path)
    argv = [sys.executable, tmp_path / "entrypoint.py"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.stdout == "['SIGINT', 'SIGQUIT', 'SIGTERM']\n", done.stderr
