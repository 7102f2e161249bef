"""What befalls a box from outside: signals at any moment, full disks, closed outputs, no room."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from signal import SIGTERM

import pytest

from testing.container import kernel
from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.engine import DOCKER, poll
from testing.container.login import KeyPair, login, make_key, run_over
from testing.container.processes import commands_of

PYTHON = "/opt/launcher/bin/python"
ENTRYPOINT = f"{PYTHON} -I /opt/launcher/entrypoint.py"
PROMPT = 5.0  # seconds that a stop may take; Docker kills at 10


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return make_key(tmp_path)


# --- signals at any moment ------------------------------------------------------------------


def test_a_stop_right_after_the_start(box: Boxes) -> None:
    """As soon as PID 1 can hear it: Linux drops what comes while its interpreter starts."""
    started = box()
    for _ in range(3):
        assert poll(lambda: _waits_for_term(started), timeout=10, interval=0.001)
        started.kill("TERM")
        assert started.wait(timeout=PROMPT) == 0
        started.start()
    assert "Ready" not in started.logs()
    assert "Traceback" not in started.logs()


def test_a_stop_while_the_services_start(box: Boxes, tmp_path: Path) -> None:
    """Before the banner; asked for twice, and with a `docker exec` that runs."""
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 301\n")
    slow.chmod(0o755)
    started = box("-v", f"{slow}:/opt/slow/python:ro", "-e", "LAUNCHER_PYTHON=/opt/slow/python")
    with subprocess.Popen(
        [DOCKER, "exec", started.name, "sleep", "302"], env=started.docker.environment
    ) as guest:
        assert poll(lambda: {"sleep 301", "sleep 302"} <= set(commands_of(started)), timeout=20)
        started.kill("TERM")
        _asked_again(started)  # it may have ended by then
        assert started.wait(timeout=PROMPT) == 0
        assert guest.wait(timeout=PROMPT) != 0
    assert commands_of(started) == []
    assert "Ready" not in started.logs()
    assert "Traceback" not in started.logs()


def test_a_stop_asked_for_again_does_not_wait(box: Boxes, tmp_path: Path) -> None:
    """What takes its time to stop loses it at the second request."""
    stubborn = tmp_path / "stubborn.conf"
    stubborn.write_text(
        "[program:stubborn]\nstopwaitsecs=60\n"
        "command=/bin/sh -c \"trap 'touch /tmp/told' TERM; while :; do sleep 0.1; done\"\n"
    )
    started = box("-v", f"{stubborn}:/etc/launcher/supervisor.d/stubborn.conf:ro")
    started.wait_for_banner()
    started.kill("TERM")
    assert poll(lambda: _exists(started, "/tmp/told"), timeout=PROMPT)
    # A second at least after the first, or it is one and the same Ctrl-C.
    assert poll(lambda: not _asked_again(started), timeout=4, interval=1.1)
    assert started.exit_code() == 0
    assert "launcher: something did not stop in time and is killed" in started.logs()
    assert commands_of(started) == []


DEAF = r"""
import os, signal, time
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
os.setsid()
time.sleep(300)
"""


def test_a_stop_ends_what_cannot_hear_it(box: Boxes) -> None:
    """What ignores TERM in its own session, what is stopped, what has its own pid namespace."""
    started = box("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")
    server = kernel.connect(started)
    with server.kernel() as notebook:
        assert notebook.run("import os; os.getpid()") == ""
        for argv in (
            ["python", "-c", DEAF],
            ["unshare", "--fork", "--pid", "sleep", "303"],
            ["sh", "-c", "kill -STOP $$"],
        ):
            started.docker("exec", "--detach", started.name, *argv)
        assert poll(lambda: "sleep 303" in commands_of(started), timeout=10)
        started.exec("pkill", "-STOP", "-f", "jupyter.py|ipykernel")
        seconds = started.stop()
    assert seconds < PROMPT
    assert started.exit_code() == 0
    assert commands_of(started) == []


# --- more than PID 1 can fork, or reap ------------------------------------------------------

# Each child waits for the end of the pipe: they all end at once, long after their parent.
ZOMBIES = """
import os, sys
reader, writer = os.pipe()
for _ in range(2000):
    if os.fork() == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
print("forked", flush=True)
"""
BOMB = """
import os
open("/run/bombed", "w").close()
while True:
    if os.fork() == 0:
        os._exit(os.fork() and 0)
    os.waitpid(-1, 0)
"""


# Takes every process that the box may have, and each one that becomes free.
FILL = """
import os, time
while True:
    try:
        if os.fork() == 0:
            time.sleep(300)
    except BlockingIOError:
        time.sleep(0.001)
"""


def test_2000_orphans_at_once_are_reaped(box: Boxes) -> None:
    started = box(*SSH_ALONE)
    started.wait_for_banner()
    assert started.exec(PYTHON, "-I", "-", stdin=ZOMBIES).stdout == "forked\n"
    assert poll(lambda: _zombies(started) == 0, timeout=10)
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0
    started.docker("exec", "--detach", started.name, PYTHON, "-I", "-c", BOMB)
    assert poll(lambda: _exists(started, "/run/bombed"), timeout=10)
    assert started.stop() < PROMPT
    assert started.exit_code() == 0


def test_no_room_for_another_process_ends_nothing(box: Boxes) -> None:
    """A reload needs one; the box goes on without."""
    started = box("--pids-limit", "80")
    server = kernel.connect(started)
    started.docker("exec", "--detach", started.name, PYTHON, "-I", "-c", FILL)
    refused = re.compile(r"launcher: (?:cannot act on SIGHUP|not reloaded).*--pids-limit")

    def refuses() -> bool:
        started.kill("HUP")
        return refused.search(started.logs()) is not None

    assert poll(refuses, timeout=20, interval=0.5), started.logs()
    assert server.answers()
    assert started.stop() < PROMPT
    assert started.exit_code() == 0
    assert "Traceback" not in started.logs()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pids-limit", "3"], r"launcher: cannot .*: no more processes .*--pids-limit"),
        (
            ["--tmpfs", "/run/launcher:size=4k"],
            r"launcher: cannot write /run/launcher\S*: it is full: .*--tmpfs",
        ),
        (
            ["--tmpfs", "/run/launcher:size=64k"],
            r"launcher: cannot write /run/launcher\S*: it is full: ",
        ),
        (["--tmpfs", "/var/lib/launcher:size=4k"], r"cannot write /var/lib/launcher: it is full: "),
        (["--tmpfs", "/var/lib/launcher:size=8k"], r"cannot write /var/lib/launcher: it is full: "),
    ],
    ids=["processes", "run", "little-run", "state", "little-state"],
)
def test_no_room_to_start_says_so(box: Boxes, options: list[str], said: str) -> None:
    done = box.run(options=options, timeout=20)
    log = (done.stdout + done.stderr).decode()
    assert re.search(said, log), log
    assert "Traceback" not in log
    assert done.returncode == 78


def test_few_open_files_are_enough(box: Boxes) -> None:
    started = box("--ulimit", "nofile=64")
    assert kernel.connect(started).answers()
    assert login(started).is_let_in()
    assert poll(lambda: _is_healthy(started), timeout=90, interval=1)
    assert started.stop() < PROMPT
    assert started.exit_code() == 0


def test_too_little_memory_ends_it(box: Boxes) -> None:
    """The kernel kills Jupyter, or its supervisor: that is said, and the box does not hang."""
    started = box("--memory", "64m", "--memory-swap", "64m")
    why = r"killed by SIGKILL, the box is out of memory: its limit is"
    tried = re.compile(rf"launcher: jupyter ended after .*{why}")

    def is_over() -> bool:
        # A machine on which Jupyter imports for longer than `startsecs` takes each try for a start.
        return not started.is_running() or len(tried.findall(started.logs())) >= 5

    assert poll(is_over, timeout=120, interval=1)
    if started.is_running():
        started.stop()
        assert started.exit_code() in (0, 70)  # 70: it has no room to stop in either
    else:
        assert started.exit_code() == 70
        died = r"launcher: (jupyter failed for good|supervise ended by itself).*"
        assert re.search(died + why, started.logs())


# --- outputs that take nothing --------------------------------------------------------------

FULL = "mkfifo /tmp/full; exec 3<>/tmp/full; dd if=/dev/zero of=/tmp/full oflag=nonblock bs=64k; "
OUTPUTS = {
    "closed": ("", "<&- >&- 2>&-"),
    "reader-gone": ("", "> >(exec true) 2>&1"),
    "full": (FULL, ">&3 2>&3 3>&-"),
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_box_without_a_log(box: Boxes, output: str) -> None:
    """It starts, serves and stops all the same, and no file of ours becomes an output."""
    before, redirection = OUTPUTS[output]
    started = box(
        "--entrypoint", "bash", command=["-c", f"{before}exec {ENTRYPOINT} {redirection}"]
    )
    assert poll(lambda: _is_healthy(started), timeout=90, interval=1)
    banner = started.exec("launcher", "banner").stdout
    server = kernel.Server(kernel.printed_url(banner).replace(":8888/", f":{started.port(8888)}/"))
    assert server.run_cell("print('works')") == "works\n"
    if output == "closed":
        supervise = started.exec("cat", "/run/launcher/supervisord.pid").stdout.strip()
        for pid in ("1", supervise):
            streams = [started.exec("readlink", f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)]
            assert [stream.stdout for stream in streams] == 3 * ["/dev/null\n"]
    assert started.stop() < PROMPT
    assert started.exit_code() == 0


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_command_without_a_log(box: Boxes, output: str) -> None:
    before, redirection = OUTPUTS[output]
    script = f"{before}exec {ENTRYPOINT} sh -c 'exit 7' {redirection}"
    done = box.run("-c", script, options=["--entrypoint", "bash"], timeout=20)
    assert done.returncode == 7


# --- full disks -----------------------------------------------------------------------------


def test_run_fills_up_and_has_room_again(box: Boxes, key: KeyPair) -> None:
    """What runs goes on, and health tells."""
    started = box("--tmpfs", "/run/launcher:size=8m,exec", "-e", f"PUBLIC_KEY={key.public}")
    server = kernel.connect(started)
    access = login(started, key)
    with server.kernel() as notebook:
        notebook.run("answer = 42")
        assert poll(lambda: _is_healthy(started), timeout=90, interval=1)
        started.exec("dd", "if=/dev/zero", "of=/run/launcher/fill", "bs=64k", check=False)
        assert notebook.run("print(answer)") == "42\n"
        assert access.ssh("echo", "in").stdout == "in\n"
        said = started.exec("launcher", "healthcheck", check=False)
        assert said.returncode == 1
        assert "/run/launcher is full" in said.stdout + said.stderr
        # Its lines reach the container's log, though its own file has no room for them.
        assert access.ssh("true").returncode == 0
        started.exec("rm", "/run/launcher/fill")
        assert poll(lambda: _is_healthy(started), timeout=90, interval=1)
        assert server.run_cell("print('works')") == "works\n"
        started.exec("dd", "if=/dev/zero", "of=/run/launcher/fill", "bs=64k", check=False)
    assert started.stop() < PROMPT
    assert started.exit_code() == 0
    assert "Traceback" not in started.logs()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of one megabyte."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_workspace_stops_saving_and_nothing_else(box: Boxes, tmp_path: Path) -> None:
    page = {"type": "file", "format": "text", "content": "kept"}
    with small_disk(tmp_path / "disk") as disk, ExitStack() as at_the_end:
        at_the_end.callback(box.remove_all)  # before the disk goes
        fill = disk / "fill"
        fill.write_bytes(bytes(2**20))
        started = box("-v", f"{disk}:/workspace")
        server = kernel.connect(started)
        assert poll(lambda: _is_healthy(started), timeout=90, interval=1)
        with server.kernel() as notebook:
            failed = server.request("/api/contents/page", method="PUT", body=page)
            assert failed.status == 500
            assert "No space left on device" in failed.text
            assert notebook.run("print('works')") == "works\n"
            assert login(started).is_let_in()
            assert _is_healthy(started)
            fill.unlink()
            saved = server.request("/api/contents/page", method="PUT", body=page)
            assert saved.status in (200, 201)  # the failed one may have left an empty file
        assert (disk / "page").read_text() == "kept"
        assert started.stop() < PROMPT


# --- the workspace goes away ----------------------------------------------------------------


def _remove_source(box: Box, source: Path) -> None:
    subprocess.run(["rm", "-r", source], check=True)


def _unmount(box: Box, source: Path) -> None:
    pid = str(box.state()["Pid"])
    subprocess.run(["nsenter", "-t", pid, "-m", "-p", "umount", "--lazy", "/workspace"], check=True)


def _unmount_and_remove(box: Box, source: Path) -> None:
    _unmount(box, source)
    pid = str(box.state()["Pid"])
    subprocess.run(["nsenter", "-t", pid, "-m", "rm", "-r", "/workspace"], check=True)


@pytest.mark.parametrize(
    "go_away", [_remove_source, _unmount, _unmount_and_remove], ids=lambda f: f.__name__[1:]
)
def test_the_workspace_goes_away(
    box: Boxes, key: KeyPair, tmp_path: Path, go_away: Callable[[Box, Path], None]
) -> None:
    """What runs goes on, what is new starts in the home directory, Jupyter comes back."""
    source = tmp_path / "source"
    source.mkdir()
    source.chmod(0o777)
    started = box("-v", f"{source}:/workspace", "-e", f"PUBLIC_KEY={key.public}")
    server = kernel.connect(started)
    access = login(started, key)
    with server.kernel() as notebook, access.paramiko() as open_login:
        notebook.run("answer = 42")
        go_away(started, source)
        assert notebook.run("print(answer)") == "42\n"
        assert run_over(open_login, "echo still here") == "still here\n"
        assert server.run_cell("print('new')") == "new\n"
        with server.terminal() as terminal:
            assert terminal.run("echo typed") == "typed\n"
        assert access.ssh("echo", "new").stdout == "new\n"
        pid = _jupyter_of(started)
        run_over(open_login, f"kill -KILL {pid}")
        assert poll(lambda: _jupyter_of(started) not in (0, pid), timeout=20)
        assert poll(server.answers, timeout=20)
        assert server.run_cell("print('again')") == "again\n"
        with server.terminal() as terminal:
            assert terminal.run("echo typed") == "typed\n"
    assert started.stop() < PROMPT
    assert started.exit_code() == 0


# --- looking at a box -----------------------------------------------------------------------


def _waits_for_term(box: Box) -> bool:
    """Say whether PID 1 blocks TERM, so as to take it when it is ready for it.

    What it waits for in sigtimedwait(2) is not blocked meanwhile: then it sleeps.
    """
    status = Path("/proc", str(box.state()["Pid"]), "status").read_text()
    field = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    blocked = bool(int(field.get("SigBlk", "0"), 16) & 1 << SIGTERM - 1)
    return blocked or (field["Name"] == "python" and field.get("State", "").startswith("S"))


def _exists(box: Box, path: str) -> bool:
    return box.exec("test", "-e", path, check=False).returncode == 0


def _asked_again(box: Box) -> bool:
    """Ask a box to stop; return whether it still runs."""
    box.docker("kill", "--signal", "TERM", box.name, check=False)
    return box.is_running()


def _zombies(box: Box) -> int:
    return box.exec("ps", "-eo", "state=").stdout.split().count("Z")


def _is_healthy(box: Box) -> bool:
    return box.exec("launcher", "healthcheck", check=False).returncode == 0


def _jupyter_of(box: Box) -> int:
    """Return the pid of the box's Jupyter, inside the box; 0 while there is none."""
    found = _pids_inside(box)
    assert len(found) <= 1, found
    return found[0] if found else 0


def _pids_inside(box: Box) -> list[int]:
    """Look from this machine: `docker exec` needs the working directory that is gone."""
    id = box.inspect()["Id"]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                id in (folder / "cgroup").read_text()
                and b"jupyter.py" in (folder / "cmdline").read_bytes()
            ):
                inside = re.search(r"^NSpid:.*\t(\d+)$", (folder / "status").read_text(), re.M)
                assert inside
                found.append(int(inside[1]))
        except OSError:
            continue  # it has just ended
    return found
