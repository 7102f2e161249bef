"""Programs of /etc/launcher/supervisor.d: as whom they run, how they end, what that costs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from testing.container import kernel
from testing.container.box import BANNER, Box, Boxes
from testing.container.engine import poll

FOLDER = "/etc/launcher/supervisor.d"
RESTARTS = 200
HOSTILE = {
    "T_QUOTES": "'\"'\"\\\"\\\\'",
    "T_PERCENT": "%h %(ENV_PATH)s %% %",
    "T_SEMICOLON": "a ;b; # c $HOME `id`",
    "T_LINES": "\none\n\n'two'\n",
    "T_64K": "x'\"$\\ " * 11_000,
}
# Says in a file of the workspace what it is given, and stays.
TELL = """
import json, os, sys
told = {"ids": [os.getuid(), os.getgid(), sorted(os.getgroups())], "cwd": os.getcwd(),
        "environ": dict(os.environ), "umask": f"{os.umask(0):03o}", "argv": sys.argv[2:]}
with open(f"/workspace/{sys.argv[1]}.new", "w") as out:
    json.dump(told, out)
os.rename(f"/workspace/{sys.argv[1]}.new", f"/workspace/{sys.argv[1]}.json")
print("told", flush=True)
print("and complained", file=sys.stderr, flush=True)
os.execvp("sleep", ["sleep", "3600"])
"""
PROGRAMS = {
    "mine": """
        [program:mine]
        command=python /etc/launcher/supervisor.d/tell.py mine "two words"
        environment=OWN="my own 100%%",T_PERCENT="mine"
        """,
    "there": """
        [program:there]
        command=launcher exec -- python /etc/launcher/supervisor.d/tell.py there
        user=root
        directory=/usr
        umask=027
        """,
    "root": """
        [program:as-root]
        command=/opt/venv/bin/python /etc/launcher/supervisor.d/tell.py as-root
        user=root
        directory=/usr
        """,
    "crash": """
        [program:crash]
        command=sh -c "exit 7"
        startsecs=0
        autorestart=true
        """,
    "fails": """
        [program:fails]
        command=sh -c "[ -e /tmp/mended ] && exec sleep 3600; echo the spam is out; exit 3"
        """,
}


def folder_of(path: Path, programs: Mapping[str, str]) -> tuple[str, str]:
    """Return the options that mount these files as supervisor.d."""
    for name, text in programs.items():
        lines = (line.strip() for line in text.splitlines())
        (path / f"{name}.conf").write_text("\n".join(lines) + "\n")
    (path / "tell.py").write_text(TELL)
    path.chmod(0o755)
    return "-v", f"{path}:{FOLDER}:ro"


@pytest.fixture(scope="module")
def started(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory) -> Box:
    """One box with every program, one of which ends all the time."""
    mount = folder_of(tmp_path_factory.mktemp("supervisor.d"), PROGRAMS)
    env = {**HOSTILE, "LAUNCHER_RESTART_DELAY": "0.05"}
    box = shared_box("--gpus", "all", *mount, env=env)
    box.wait_for_banner()
    return box


def told(box: Box, name: str) -> dict[str, Any]:
    def there() -> bool:
        return box.exec("test", "-e", f"/workspace/{name}.json", check=False).returncode == 0

    assert poll(there, timeout=30), box.logs()[-3000:]
    found: dict[str, Any] = json.loads(box.exec("cat", f"/workspace/{name}.json").stdout)
    return found


def programs(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(box.exec("cat", "/run/launcher/programs.json").stdout)
    return found


# --- as whom --------------------------------------------------------------------------------


def test_it_runs_as_launcher_exec_would(started: Box) -> None:
    """The workspace user, with the GPUs' variables and every value byte by byte."""
    seen = told(started, "mine")
    code = f"{FOLDER}/tell.py"
    started.exec("launcher", "exec", "--", "timeout", "5", "python", code, "same", check=False)
    same = told(started, "same")
    own = {"OWN": "my own 100%", "T_PERCENT": "mine"}
    given = {name: seen["environ"].pop(name) for name in list(seen["environ"]) if name in own}
    assert given == own
    added = {name for name in seen["environ"] if name.startswith("SUPERVISOR_")}
    assert added >= {"SUPERVISOR_PROCESS_NAME", "SUPERVISOR_ENABLED"}
    of_docker_exec = {"HOSTNAME"}
    expected = {n: v for n, v in same["environ"].items() if n not in {*own, *of_docker_exec}}
    assert {n: v for n, v in seen["environ"].items() if n not in added} == expected
    assert expected["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert {n: expected[n] for n in HOSTILE if n not in own} == {
        n: v for n, v in HOSTILE.items() if n not in own
    }
    assert seen["ids"] == same["ids"]
    assert seen["ids"][0] == 1000
    assert (seen["cwd"], seen["argv"]) == ("/workspace", ["two words"])


def test_a_command_that_asks_for_the_user_gets_it(started: Box) -> None:
    seen = told(started, "there")
    assert (seen["ids"][0], seen["cwd"], seen["umask"]) == (1000, "/usr", "027")
    assert seen["environ"]["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert seen["environ"]["T_PERCENT"] == HOSTILE["T_PERCENT"]


def test_root_runs_what_is_roots(started: Box) -> None:
    seen = told(started, "as-root")
    assert (seen["ids"][0], seen["cwd"]) == (0, "/usr")
    assert "T_QUOTES" not in seen["environ"]


def test_what_it_writes_is_in_the_containers_log(started: Box) -> None:
    started.wait_for_log(r"(?m)^mine \| told$")
    started.wait_for_log(r"(?m)^mine \| and complained$")


# --- given up, and started again ------------------------------------------------------------


def test_an_optional_program_that_fails_leaves_the_box(started: Box) -> None:
    started.wait_for_log(
        r"launcher: fails failed for good \(exit status 3\), and the box goes on without it\. "
        r"Its last lines:\n(    the spam is out\n)+"
        r"launcher: to start fails again: launcher restart fails"
    )
    assert poll(lambda: programs(started)["fails"]["state"] == "failed", timeout=5)
    assert programs(started)["jupyter"]["required"]
    started.exec("touch", "/tmp/mended")
    assert "fails is restarted" in started.exec("launcher", "restart", "fails").stdout
    assert poll(lambda: programs(started)["fails"]["state"] == "running", timeout=5)


def test_what_can_be_restarted_is_listed(started: Box) -> None:
    done = started.exec("launcher", "stop", "watch", check=False)
    assert done.returncode == 78
    listed = done.stderr.rpartition("there are: ")[2].strip().split(", ")
    assert sorted(listed) == ["as-root", "crash", "fails", "jupyter", "mine", "ssh", "there"]


def test_many_restarts_cost_nothing_and_hold_nothing_up(started: Box) -> None:
    """And the log has a line for every tenth."""
    server = kernel.connect(started)

    def starts() -> int:
        return int(programs(started)["crash"]["starts"])

    assert poll(lambda: starts() >= 20, timeout=30)
    before, first = _size(started), starts()
    assert poll(lambda: starts() >= first + RESTARTS, timeout=120, interval=0.5)
    after = _size(started)
    print(f"files {before[0]} -> {after[0]}, memory {before[1]} -> {after[1]} kB")
    assert after[0] <= before[0] + 8  # a restart may be under way; a leak would be hundreds
    assert after[1] <= before[1] + 1024
    said = re.findall(r"launcher: crash ended .*", started.logs())
    assert len(said) <= 5 + starts() // 10
    assert "launcher | " not in started.logs()
    assert server.run_cell("print('works')") == "works\n"
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0


def test_stop_is_prompt_all_the_same(started: Box) -> None:
    """The last test of this box: all groups are told at once."""
    assert started.stop() < 5
    assert started.exit_code() == 0
    assert "killed" not in started.logs()[-2000:]


def _size(box: Box) -> tuple[int, int]:
    """Return how many files supervise has open, and its memory in kB."""
    script = (
        "p=$(cat /run/launcher/supervisord.pid); ls /proc/$p/fd | wc -l; "
        "awk '/^VmRSS/ {print $2}' /proc/$p/status"
    )
    files, memory = box.exec("sh", "-c", script).stdout.split()
    return int(files), int(memory)


# --- what is asked for ----------------------------------------------------------------------

EATER = """
[program:eater]
command=python -c "x = [bytearray(1 << 24) for _ in iter(int, 1)]"
startsecs=60
startretries=0
"""


def test_a_required_program_ends_the_box_and_memory_is_named(box: Boxes, tmp_path: Path) -> None:
    limits = ("--memory", "640m", "--memory-swap", "640m")
    env = {"LAUNCHER_REQUIRED_SERVICES": "eater", "LAUNCHER_SERVICES": "jupyter,eater"}
    mount = folder_of(tmp_path, {"eater": EATER, "mine": PROGRAMS["mine"]})
    eats = box(*limits, *mount, env=env)
    assert eats.wait(timeout=60) == 70
    said = eats.logs()
    assert re.search(
        r"launcher: eater failed for good \(killed by SIGKILL, the box is out of memory: its limit "
        r"is 0\.625 GiB\), so the container ends",
        said,
    )
    assert "sshd |" not in said
    assert "mine |" not in said


@pytest.mark.parametrize(
    ("text", "env", "said"),
    [
        ("[inet_http_server]\nport=*:9001", {}, r"bad\.conf: \[inet_http_server\] is not accepted"),
        ("[program:bad]\ncommand=cat\nstartsecs=x", {}, r"bad\.conf: \[program:bad\]: .*'x'"),
        ("[program:bad]\ncommand=cat", {"LAUNCHER_SERVICES": "good"},
         r"LAUNCHER_SERVICES names good, .*: there are jupyter, ssh, bad\."),
    ],
    ids=["section", "value", "name"],
)  # fmt: skip
def test_what_cannot_be_used_ends_the_start(
    box: Boxes, tmp_path: Path, text: str, env: dict[str, str], said: str
) -> None:
    refused = box(*folder_of(tmp_path, {"bad": text}), env=env)
    assert refused.wait(timeout=30) == 78
    assert re.search(rf"(?m)^launcher: .*{said}", refused.logs()), refused.logs()
    assert BANNER.search(refused.logs()) is None


def test_safe_mode_starts_whatever_is_there(box: Boxes, tmp_path: Path) -> None:
    mount = folder_of(tmp_path, {"bad": "nonsense"})
    env = {"LAUNCHER_SAFE_MODE": "1", "LAUNCHER_SERVICES": "jupyter,bad"}
    safe = box(*mount, env=env)
    safe.wait_for_banner()
    assert f"launcher: safe mode: no program of {FOLDER} is started" in safe.logs()
    assert programs(safe).keys() == {"jupyter", "watch"}


# --- the clock ------------------------------------------------------------------------------

CLOCK = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long offset(void) {
    char text[32] = "";
    int fd = syscall(SYS_openat, AT_FDCWD, "/clock/offset", O_RDONLY);
    if (fd < 0) return 0;
    if (syscall(SYS_read, fd, text, sizeof text - 1) < 0) text[0] = 0;
    syscall(SYS_close, fd);
    return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *ts) {
    long done = syscall(SYS_clock_gettime, id, ts);
    if (!done && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) ts->tv_sec += offset();
    return done;
}
int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
    long done = syscall(SYS_gettimeofday, tv, tz);
    if (!done) tv->tv_sec += offset();
    return done;
}
time_t time(time_t *at) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (at) *at = ts.tv_sec;
    return ts.tv_sec;
}
"""
DAY = 86400
DEAF = """
[program:deaf]
command=sh -c "trap '' TERM; echo deaf; while :; do sleep 0.1; done"
stopwaitsecs=2
"""


def test_a_clock_that_jumps_kills_nothing_and_delays_nothing(box: Boxes, tmp_path: Path) -> None:
    """A day ahead and a day back, while Jupyter is started again and while the box stops."""
    clock = tmp_path / "clock"
    clock.mkdir()
    compile_library(clock)
    (tmp_path / "preload").write_text("/clock/libclock.so\n")
    (tmp_path / "programs").mkdir()
    jumping = box(
        "-v", f"{clock}:/clock:ro", "-v", f"{tmp_path}/preload:/etc/ld.so.preload:ro",
        *folder_of(tmp_path / "programs", {"deaf": DEAF}),
    )  # fmt: skip
    server = kernel.connect(jumping)
    jumping.wait_for_log(r"deaf \| deaf")
    here = int(jumping.exec("date", "+%s").stdout)

    def started_for_the(number: int) -> bool:
        return bool(programs(jumping)["jupyter"]["starts"] == number)

    for number, offset in enumerate((DAY, -DAY), start=2):
        jumping.exec("kill", "-KILL", str(programs(jumping)["jupyter"]["pid"]))
        assert poll(partial(started_for_the, number), timeout=10)
        (clock / "offset").write_text(f"{offset}\n")
        there = int(jumping.exec("date", "+%s").stdout)
        assert abs(there - here - offset) < 600, "the clock has jumped"
        assert poll(server.answers, timeout=20)
        assert poll(lambda: programs(jumping)["jupyter"]["state"] == "running", timeout=10)
    jumping.kill("TERM")
    (clock / "offset").write_text(f"{-2 * DAY}\n")
    assert jumping.wait(timeout=10) == 0
    assert "launcher: deaf did not stop within 2 s and is killed" in jumping.logs()
    assert "launcher: something did not stop in time" not in jumping.logs()


def compile_library(folder: Path) -> None:
    source = folder / "clock.c"
    source.write_text(CLOCK)
    command = ["gcc", "-shared", "-fPIC", "-O2", "-o", f"{folder}/libclock.so", str(source)]
    subprocess.run(command, check=True)
