"""What a box must not do: leak, spin, obstruct, or trust what its user can write."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.container import doors, kernel
from tests.container.box import BANNER, Box, Boxes
from tests.container.engine import DOCKER, poll
from tests.container.login import PASSWORD, login

NOBODY = 65534
# What CPython itself ignores (Python/pylifecycle.c, init_signals): SIGPIPE and SIGXFSZ.  It undoes
# that in what it starts; exec alone would not.
IGNORED_BY_PYTHON = {13, 25}


@dataclass(frozen=True)
class Started:
    """A box without GPUs, as `docker run IMAGE` starts it, and all it had said by then."""

    box: Box
    log: str


@pytest.fixture(scope="module")
def started(shared_box: Boxes, wheels: Path) -> Started:
    box = shared_box("-v", f"{wheels}:/wheels:ro")
    box.wait_for_log(r"launcher: PyTorch .*\n", timeout=120)
    return Started(box, box.logs())


@pytest.fixture(scope="module")
def box_of_all(started: Started) -> Box:
    return started.box


def run_inside(box: Box, script: str, *, user: str = "0", **values: object) -> str:
    """Run a script in the launcher's Python; the values reach it on no command line.

    Root is given every capability: with Docker's usual ones it may not look into other users'
    processes.
    """
    assigned = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    rights = ["--privileged"] if user == "0" else ["--user", user]
    python = ("/opt/launcher/bin/python", "-I", "-")
    exec_ = ("exec", "--interactive", *rights, box.name, *python)
    return box.docker(*exec_, stdin=assigned + script).stdout


# --- the log ----------------------------------------------------------------------------------


def test_a_good_start_says_nothing_alarming(started: Started) -> None:
    alarming = re.compile(r"WARN|ERROR|CRIT|Traceback|Exception|\[[WEC] |fail|denied", re.I)
    assert [line for line in started.log.splitlines() if alarming.search(line)] == []


def test_secrets_are_in_the_banner_and_nowhere_else_in_the_log(started: Started) -> None:
    banner = BANNER.search(started.log)
    assert banner
    outside = started.log.replace(banner[0], "")
    shown = [banner[0].count(secret) for secret in secrets_of(started.box)]
    assert shown == [1, 1, 0], "the token, the password, and nothing of the private key"
    assert [secret for secret in secrets_of(started.box) if secret in outside] == []
    assert re.findall(r"https?://", outside) == []


# --- signals ----------------------------------------------------------------------------------


def signal_sets(status: str) -> dict[str, set[int]]:
    """Return what /proc/PID/status says is blocked and ignored (proc_pid_status(5))."""
    return {
        name: {bit + 1 for bit in range(64) if int(mask, 16) >> bit & 1}
        for name, mask in re.findall(r"^(SigBlk|SigIgn):\s*([0-9a-f]{16})$", status, re.MULTILINE)
    }


CLEAN: dict[str, set[int]] = {"SigBlk": set(), "SigIgn": set()}


@pytest.mark.parametrize("door", doors.DOORS)
def test_programs_start_with_clean_signals(box_of_all: Box, door: str) -> None:
    """Both sets survive exec, so what PID 1 blocks or Python ignores could reach everything.

    Of the door's shell a program is looked at, which the shell forks: an interactive bash itself
    ignores TERM and the terminal's stop signals, and its programs do not (bash(1), SIGNALS).
    """
    status = doors.DOORS[door](box_of_all, "cat /proc/self/status; true")
    assert signal_sets(status) == CLEAN


def test_a_command_starts_with_clean_signals(box: Boxes) -> None:
    assert signal_sets(box.run("cat", "/proc/self/status").stdout.decode()) == CLEAN


def test_a_kernel_has_python_s_own_signals(box_of_all: Box) -> None:
    cell = "print(open('/proc/self/status').read())"
    found = signal_sets(kernel.connect(box_of_all).run_cell(cell))
    assert found == {"SigBlk": set(), "SigIgn": IGNORED_BY_PYTHON}


# --- what a notebook user does on the first day -----------------------------------------------


def make_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel of one module that knows its version (PyPA, "Binary distribution format")."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f'__version__ = "{version}"\n',
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(path, text)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder of wheels: pip's work is the same as with an index, which may be out of reach.

    `nvitop` is in the image; nothing needs it.
    """
    folder = tmp_path_factory.mktemp("wheels")
    for name, version in (("sample_package", "1.0"), ("sample_package", "2.0"), ("nvitop", "99.0")):
        make_wheel(folder, name, version)
    folder.chmod(0o755)
    return folder


PIP_INSTALL = "pip install --no-index --find-links /wheels --upgrade"


def test_pip_install_from_a_cell(box_of_all: Box) -> None:
    """A new package, its upgrade, and the upgrade of one that root installed with the image."""
    with kernel.connect(box_of_all).kernel() as notebook:
        notebook.run(f"%{PIP_INSTALL} sample_package==1.0")
        assert notebook.run("import sample_package as it; print(it.__version__)") == "1.0\n"
        notebook.run(f"%{PIP_INSTALL} sample_package nvitop")
        module = "import importlib; importlib.reload(it); print(it.__version__, it.__file__)"
        version, path = notebook.run(module).split()
        assert (version, path.partition("/lib/")[0]) == ("2.0", "/opt/venv")
        installed = "from importlib.metadata import version; print(version('nvitop'))"
        assert notebook.run(installed) == "99.0\n"


def test_pip_install_over_ssh(box_of_all: Box) -> None:
    said = login(box_of_all).ssh(f"{PIP_INSTALL} sample_package==1.0 && pip check; id -un")
    assert said.stdout.splitlines()[-2:] == ["No broken requirements found.", "dev"], said


COMPILE = """
import getpass, pathlib, torch

@torch.compile
def wave(x):
    return torch.sin(x) * 2 + 1

x = torch.linspace(0, 1, 1000)
assert torch.allclose(wave(x), torch.sin(x) * 2 + 1)
user = getpass.getuser()
print(user, len(list(pathlib.Path(f"/tmp/torchinductor_{user}").rglob("*.so"))))
"""


def test_torch_compile_from_a_cell(box_of_all: Box) -> None:
    """It needs a compiler, headers, and a folder to write to: a library of the function is made."""
    user, libraries = kernel.connect(box_of_all).run_cell(COMPILE).split()
    assert user == "dev"
    assert int(libraries) >= 1


# --- secrets ----------------------------------------------------------------------------------


def secrets_of(box: Box) -> list[str]:
    """Return the token and password of the banner, and the body of the private host key."""
    banner = box.wait_for_banner()
    password = PASSWORD.search(banner)
    assert password
    token = kernel.connect(box).token
    key = box.exec("cat", "/var/lib/launcher/ssh_host_ed25519_key").stdout.splitlines()[3]
    assert len(key) > 40, "a line of its base64"
    return [token, password[1], key]


# Prints every process in whose command line or environment one of the SECRETS is.
FIND_IN_PROCESSES = """
import glob
for path in glob.glob("/proc/[0-9]*/*"):
    if path.endswith(("/cmdline", "/environ")):
        try:
            content = open(path, "rb").read()
        except OSError:
            continue
        pid = path.split("/")[2]
        if any(secret.encode() in content for secret in secrets):
            status = open(f"/proc/{pid}/status").read()
            uid = status.partition("Uid:")[2].split()[0]
            print(path.split("/")[3], uid)
"""


START_AND_SHOW = """
import subprocess, sys
argv = [sys.executable, "-c", "import time; time.sleep(1000)", "a password"]
child = subprocess.Popen(argv, env={"LOGIN": "a password"})
"""


def test_no_process_shows_a_secret(box_of_all: Box) -> None:
    """Not with a kernel, a terminal and a login in use; a process of that kind would be found."""
    server, secrets = kernel.connect(box_of_all), secrets_of(box_of_all)
    with server.kernel() as notebook, server.terminal() as terminal:
        assert terminal.run("echo here") == "here\n"
        with login(box_of_all).paramiko():
            assert run_inside(box_of_all, FIND_IN_PROCESSES, secrets=secrets) == ""
            notebook.run(START_AND_SHOW)
            shown = run_inside(box_of_all, FIND_IN_PROCESSES, secrets=["a password"])
            assert shown.split("\n") == ["environ 1000", "cmdline 1000", ""]
            notebook.run("child.kill()")


def test_a_token_from_the_environment_stays_with_root(box: Boxes) -> None:
    """Docker puts it into PID 1's environment; no kernel or login inherits it."""
    token = "a token, chosen by the user"
    started = box("-e", f"JUPYTER_TOKEN={token}", "-e", "SOMETHING=found")
    server = kernel.connect(started)
    assert server.token == token
    with server.kernel() as notebook, login(started).paramiko() as client:
        client.exec_command("sleep 1000", get_pty=True)
        assert poll(lambda: "sleep" in started.exec("ps", "-eo", "comm").stdout, timeout=10)
        shown = run_inside(started, FIND_IN_PROCESSES, secrets=[token])
        inherited = run_inside(started, FIND_IN_PROCESSES, secrets=["SOMETHING=found"])
        assert set(shown.splitlines()) == {"environ 0"}
        assert "environ 1000" in inherited, "nothing of the environment arrived at all"
        names = notebook.run("import os; print(*sorted(os.environ))").split()
    assert "SOMETHING" in names
    assert [name for name in names if "TOKEN" in name] == []


# Prints every file in which one of the `secrets` is, of those written since the box started.
FIND_IN_FILES = """
import os
started = os.stat("/proc/1").st_ctime - 60
count = 0
for folder, folders, files in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys")]
    for name in files:
        path = os.path.join(folder, name)
        try:
            if os.lstat(path).st_ctime < started or not os.path.isfile(path):
                continue
            content = open(path, "rb").read()
        except OSError:
            continue
        count += 1
        if any(secret.encode() in content for secret in secrets):
            print(path)
assert count, "there was nothing to read"
"""


@pytest.mark.parametrize("group", [NOBODY, 1000], ids=["others", "the-user-s-group"])
def test_no_secret_can_be_read_by_others(box_of_all: Box, group: int) -> None:
    stranger = f"{NOBODY}:{group}"
    secrets = secrets_of(box_of_all)
    assert run_inside(box_of_all, FIND_IN_FILES, user=stranger, secrets=secrets) == ""


def test_secrets_are_where_they_belong(box_of_all: Box) -> None:
    """The same search, as root, finds them: in the state, in this run's files, nowhere else."""
    found = run_inside(box_of_all, FIND_IN_FILES, secrets=secrets_of(box_of_all)).splitlines()
    assert "/var/lib/launcher/token" in found
    assert {path.rsplit("/", 1)[0] for path in found} <= {
        "/var/lib/launcher",
        "/run/launcher",
        "/run/launcher/log",
        "/run/launcher/jupyter",
    }


# docs/architecture.md, "Files".  What Jupyter keeps in its own folder is its own.
MODES = {
    "/run/launcher": "root:root 755",
    "/run/launcher/banner": "root:root 600",
    "/run/launcher/environment.sh": "root:dev 640",
    "/run/launcher/health.json": "root:root 644",
    "/run/launcher/jupyter": "dev:dev 700",
    "/run/launcher/jupyter.json": "dev:dev 600",
    "/run/launcher/log": "root:root 700",
    "/run/launcher/machine.json": "root:root 600",
    "/run/launcher/path.sh": "root:dev 640",
    "/run/launcher/plan.json": "root:root 600",
    "/run/launcher/services": "root:root 700",
    "/run/launcher/services/jupyter.json": "root:root 600",
    "/run/launcher/services/sshd.json": "root:root 600",
    "/run/launcher/ssh": "root:root 755",
    "/run/launcher/ssh/authorized_keys": "root:root 644",
    "/run/launcher/ssh/sshd_config": "root:root 600",
    "/run/launcher/supervisor.sock": "root:root 700",
    "/run/launcher/supervisord.pid": "root:root 644",
    "/var/lib/launcher": "root:root 700",
    "/var/lib/launcher/password": "root:root 600",
    "/var/lib/launcher/ssh_host_ed25519_key": "root:root 600",
    "/var/lib/launcher/ssh_host_ed25519_key.pub": "root:root 644",
    "/var/lib/launcher/token": "root:root 600",
}


LIST_MODES = """
import grp, os, pwd
for top in ("/run/launcher", "/var/lib/launcher"):
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if name not in inner]
        for path in [folder, *(os.path.join(folder, name) for name in [*files, *inner])]:
            if os.path.exists(path):
                info = os.lstat(path)
                owner, group = pwd.getpwuid(info.st_uid)[0], grp.getgrgid(info.st_gid)[0]
                print(path, f"{owner}:{group} {info.st_mode & 0o777:o}")
"""


def test_files_have_the_documented_modes(box_of_all: Box) -> None:
    """Every file, so that a new one is thought about.

    Left out is the sticky bit, which Jupyter sets on a folder of its own.
    """
    listed = run_inside(box_of_all, LIST_MODES, inner=["jupyter", "log"])
    assert dict(line.split(" ", 1) for line in listed.splitlines()) == MODES


@pytest.mark.parametrize("where", ["services", "command"])
def test_devices_stay_root_s(box: Boxes, box_of_all: Box, where: str) -> None:
    """Standard input is /dev/null where nobody gave one; it is handed to no user."""
    stat = ("stat", "--format", "%n %U %a", "/dev/null", "/dev/zero", "/dev/urandom")
    shown = box_of_all.exec(*stat).stdout if where == "services" else box.run(*stat).stdout.decode()
    assert {line.split(" ", 1)[1] for line in shown.splitlines()} == {"root 666"}


# --- what listens -----------------------------------------------------------------------------

LISTENERS = """
import glob, json, os, re
owners = {}
for link in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        inode = re.match(r"socket:\\[(\\d+)]", os.readlink(link))
        if inode:
            owners[inode[1]] = open(f"/proc/{link.split('/')[2]}/comm").read().strip()
    except OSError:
        pass
found = []
for table in ("tcp", "tcp6", "udp", "udp6"):
    for line in open(f"/proc/net/{table}").read().splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        if state == "0A" or table.startswith("udp"):
            found.append([table, int(local.rpartition(":")[2], 16), owners.get(rest[5])])
print(json.dumps(sorted(found)))
"""


def test_only_jupyter_and_sshd_listen(box_of_all: Box) -> None:
    """On TCP, and nobody on UDP.  Each kernel has ports of its own, so none may be running."""

    def listeners() -> list[list[object]]:
        return list(json.loads(run_inside(box_of_all, LISTENERS)))

    services = [
        *(["tcp", 22, "sshd"], ["tcp", 8888, "python"]),
        *(["tcp6", 22, "sshd"], ["tcp6", 8888, "python"]),
    ]
    assert poll(lambda: listeners() == services, timeout=10), listeners()


CALL_AND_HANG_UP = """
import base64, socket
call = b"<methodCall><methodName>supervisor.getAllProcessInfo</methodName></methodCall>"
login = base64.b64encode(b"launcher:launcher")
for _ in range(20):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("/run/launcher/supervisor.sock")
        client.sendall(
            b"POST /RPC2 HTTP/1.0\\r\\nContent-Type: text/xml\\r\\n"
            b"Authorization: Basic " + login + b"\\r\\n"
            b"Content-Length: %d\\r\\n\\r\\n" % len(call) + call
        )
"""


def test_a_supervisor_client_that_hangs_up_does_not_end_the_box(box: Boxes) -> None:
    """An answer to somebody who is gone raises SIGPIPE, whose default is to kill."""
    started = box()
    started.wait_for_banner()
    run_inside(started, CALL_AND_HANG_UP)
    # This one is answered, so all of those have been.
    status = ("/opt/launcher/bin/supervisorctl", "-c", "/etc/launcher/supervisord.conf", "status")
    answer = started.exec(*status, env={"LAUNCHER_RUN_DIR": "/run/launcher"}, check=False)
    assert re.findall(r"^box:(\w+) +(?:RUNNING|STARTING)", answer.stdout, re.MULTILINE) == [
        "jupyter",
        "sshd",
        "watch",
    ]


# --- whom root trusts -------------------------------------------------------------------------

# Stands in for a module of the standard library or of ours, tells who imports it, and gives way.
IMPOSTOR = """
import os, sys
open(f"/workspace/imported/{os.geteuid()}-{__name__}", "w").close()
here, path = os.path.dirname(os.path.abspath(__file__)), list(sys.path)
sys.path[:] = [folder for folder in path if os.path.abspath(folder or ".") != here]
del sys.modules[__name__]
try:
    __import__(__name__)
except ImportError:
    pass
finally:
    sys.path[:] = path
"""
IMPERSONATED = [
    "json",
    "launcher",
    "sitecustomize",
    "usercustomize",
    "supervisor",
    "pynvml",
    "paramiko",
    "socket",
    "site",
]


@pytest.fixture
def hostile_workspace(tmp_path: Path) -> Iterator[Path]:
    """Make a workspace full of modules that nobody asked for."""
    (tmp_path / "imported").mkdir()
    for name in IMPERSONATED:
        (tmp_path / f"{name}.py").write_text(IMPOSTOR)
    for folder in (tmp_path, tmp_path / "imported"):
        folder.chmod(0o777)
    yield tmp_path
    shutil.rmtree(tmp_path / "imported")


def hostile(workspace: Path) -> list[str]:
    startup = ["PYTHONPATH=/workspace", "PYTHONSTARTUP=/workspace/json.py", "PYTHONSAFEPATH="]
    return ["-v", f"{workspace}:/workspace", *(word for line in startup for word in ("-e", line))]


def test_root_imports_nothing_of_the_workspace(box: Boxes, hostile_workspace: Path) -> None:
    """Whatever is called there, and whatever PYTHONPATH says; the user's own Python does."""
    started = box("--health-interval", "1s", *hostile(hostile_workspace))
    started.wait_for_log(r"launcher: PyTorch .*\n", timeout=120)
    for name in ("banner", "url", "settings", "plan", "detect", "doctor", "healthcheck"):
        started.exec("launcher", name, check=False)
    started.exec("launcher", "exec", "--", "true")
    started.kill("HUP")
    started.wait_for_log("reloaded")
    assert poll(lambda: started.inspect("{{.State.Health.Status}}") == "healthy", timeout=20)
    assert box.run("launcher", "doctor", options=hostile(hostile_workspace)).returncode == 10
    imported = {path.name for path in (hostile_workspace / "imported").iterdir()}
    assert "1000-json" in imported, "the trap does not work"
    assert {name for name in imported if name.startswith("0-")} == set()


# Tells who runs it, then is what it is called.
IMPOSTOR_PROGRAM = """#!/bin/sh
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
touch "/workspace/ran-$(id -u)-${0##*/}"
exec "${0##*/}" "$@"
"""
# What root runs by name, or could: of these the user's environment has none, so it can be added.
ROOT_RUNS = ["ssh-keygen", "chpasswd", "sshd", "id", "env", "sh", "ldconfig", "supervisorctl"]


def plant(box: Box, *programs: str) -> None:
    """As the workspace user, put programs first on the container's PATH."""
    paths = " ".join(f"/opt/venv/bin/{name}" for name in programs)
    script = f"tee {paths} > /dev/null && chmod +x {paths}"
    box.exec("/bin/sh", "-c", script, stdin=IMPOSTOR_PROGRAM, user="dev")


def ran(box: Box) -> list[str]:
    """Return who ran which of the planted programs: `UID-PROGRAM`."""
    names = box.exec("/bin/ls", "/workspace").stdout.split()
    return [name.removeprefix("ran-") for name in names if name.startswith("ran-")]


def test_root_runs_no_program_of_the_user_environment(box: Boxes) -> None:
    """The container's PATH starts with a folder that the user writes to: root has another."""
    started = box()
    started.wait_for_banner()
    plant(started, *ROOT_RUNS)
    started.exec("/bin/rm", "/var/lib/launcher/ssh_host_ed25519_key")
    started.restart()
    assert poll(lambda: len(BANNER.findall(started.logs())) == 2, timeout=60)
    started.kill("HUP")
    started.wait_for_log("reloaded")
    started.exec("env", "true", user="dev")
    assert "1000-env" in ran(started), "the trap does not work"
    assert [name for name in ran(started) if name.startswith("0-")] == []


def test_the_health_check_runs_no_program_of_the_user_environment(box: Boxes) -> None:
    """Docker runs it as root, with the container's PATH."""
    started = box("--health-interval", "1s")
    started.wait_for_banner()
    plant(started, "launcher")
    planted = len(checks(started))
    assert poll(lambda: len(checks(started)) > planted + 1, timeout=20)
    started.exec("launcher", "url", check=False, user="dev")
    assert ran(started) == ["1000-launcher"]


def checks(box: Box) -> list[str]:
    """Return when Docker checked the box's health.  It remembers the last five."""
    return box.inspect("{{range .State.Health.Log}}{{.Start}};{{end}}").split(";")


ROOT_S_PATHS = """
import glob, os
for status in glob.glob("/proc/[0-9]*/status"):
    pid = status.split("/")[2]
    try:
        uids = open(status).read().partition("Uid:")[2].split()[:4]
        environ = open(f"/proc/{pid}/environ", "rb").read().split(b"\\0")
    except OSError:
        continue
    # PID 1 has what Docker gave it, and so has what it forked; they search nothing there.
    if uids[0] == "0" and b"LAUNCHER_RUN_DIR=/run/launcher" in environ:
        for folder in next(v for v in environ if v.startswith(b"PATH="))[5:].decode().split(":"):
            there = os.path.realpath(folder)
            while True:
                info = os.stat(there)
                if info.st_uid != 0 or info.st_mode & 0o022:
                    print(pid, folder, there)
                if there == "/":
                    break
                there = os.path.dirname(there)
        print("looked at", open(f"/proc/{pid}/comm").read().strip())
"""


def test_root_s_path_is_root_s(box_of_all: Box) -> None:
    """Of what supervise starts as root, with the environment that it gives."""
    assert run_inside(box_of_all, ROOT_S_PATHS).splitlines() == ["looked at python"]


# --- what it costs while nothing happens ------------------------------------------------------

CPU_TIME = """
import glob, time

def nanoseconds(pids):
    return sum(
        int(open(path).read().split()[0])
        for pid in pids
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat")
    )

# A health check may run just now; it is no daemon.
ours = [
    path.split("/")[2]
    for path in glob.glob("/proc/[0-9]*/cmdline")
    if open(path).read().rstrip("\0").endswith(("/opt/launcher/entrypoint.py", "\0watch"))
]
before = nanoseconds(ours)
time.sleep(10)
print(len(ours), (nanoseconds(ours) - before) / 1e9)
"""


def test_nothing_of_ours_spins(box_of_all: Box) -> None:
    """PID 1, supervise and watch together, over ten seconds: two looks at the services."""
    count, seconds = run_inside(box_of_all, CPU_TIME).split()
    print(f"{seconds} s of CPU time")
    assert count == "3"
    assert float(seconds) < 0.1


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["notebook", "ssh_command"])
def test_limits_behind_a_door(box_of_all: Box, door: str) -> None:
    """A crash leaves no core dump unless its user asks; files may be open as Docker allows."""
    docker_s = box_of_all.exec("sh", "-c", "ulimit -Hc; ulimit -Hn").stdout.split()
    shown = doors.DOORS[door](box_of_all, "bash -c 'ulimit -Sc; ulimit -Hc; ulimit -Hn'").split()
    assert shown == ["0", *docker_s]


# --- a log that nobody reads ------------------------------------------------------------------

# Is there no room in the container's standard output?  Opened anew, so O_NONBLOCK stays ours.
OUTPUT_IS_FULL = """
import os, select
output = os.open("/proc/1/fd/1", os.O_WRONLY | os.O_NONBLOCK)
print(select.select([], [output], [], 0)[1] == [])
"""
FLOOD = """\
[program:flood]
command=/bin/sh -c "until [ -e /run/flood ]; do sleep 0.1; done; exec yes nobody reads this"
"""
SMALL_LOG = ("--log-opt", "max-size=10m")


@contextmanager
def attached(box: Box) -> Iterator[None]:
    """Attach to a box, and read nothing of what it says: Docker then reads no more from it."""
    reader = subprocess.Popen(
        [DOCKER, "attach", "--no-stdin", "--sig-proxy=false", box.name],
        env=box.docker.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        yield
    finally:
        reader.kill()
        reader.communicate()


def is_stuck(box: Box) -> bool:
    """Say whether nobody takes the box's output: a busy reader makes room now and then."""
    return all(run_inside(box, OUTPUT_IS_FULL) == "True\n" for _ in range(5))


def stop(box: Box) -> subprocess.Popen[bytes]:
    """Run `docker stop` to the end of the box's processes, which has to come in time.

    The command goes on: Docker waits until somebody has read what the box said, whatever ran in it.
    """
    first = Path("/proc", box.inspect("{{.State.Pid}}"))
    assert first.exists()
    command = subprocess.Popen([DOCKER, "stop", box.name], env=box.docker.environment)
    assert poll(lambda: not first.exists(), timeout=9.5)  # at ten seconds, Docker kills it
    return command


def test_a_log_that_nobody_reads_stops_nothing(box: Boxes, tmp_path: Path) -> None:
    """Flooded and stuck, the box works, is healthy, and ends in time."""
    (tmp_path / "flood.conf").write_text(FLOOD)
    flood = f"{tmp_path}/flood.conf:/etc/launcher/supervisor.d/flood.conf:ro"
    started = box("-v", flood, *SMALL_LOG)
    server, ssh = kernel.connect(started), login(started)
    with attached(started):
        started.exec("touch", "/run/flood")
        assert poll(lambda: is_stuck(started), timeout=30)
        assert server.answers()
        assert ssh.is_let_in()
        assert started.exec("launcher", "healthcheck", check=False).returncode == 0
        assert is_stuck(started)
        stopping = stop(started)
    assert stopping.wait(30) == 0
    assert started.exit_code() == 0


def test_a_command_whose_output_nobody_reads_can_be_stopped(box: Boxes) -> None:
    script = "until [ -e /tmp/flood ]; do sleep 0.1; done; exec yes nobody reads this"
    started = box(*SMALL_LOG, command=["sh", "-c", script])
    with attached(started):
        started.exec("touch", "/tmp/flood")
        assert poll(lambda: is_stuck(started), timeout=30)
        stopping = stop(started)
    assert stopping.wait(30) == 0
    assert started.exit_code() == 128 + 15
