"""Whom root trusts: nothing that the user can write, and nobody who hangs up on it."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.plan.findings import LOGIN, TERMINAL
from launcher.plan.identity import BECOME_ANOTHER
from testing import pages
from testing.container import doors
from testing.container.box import BANNER, PYTORCH_CHECKED, SSH_ALONE, Box, Boxes
from testing.container.engine import poll
from testing.container.processes import processes
from tests.unit.box.test_ssh_keys import made_up_key


@pytest.fixture(scope="module")
def services(shared_box: Boxes) -> Box:
    """A box that nothing is done to."""
    box = shared_box()
    box.wait_for_banner()
    return box


# --- names that somebody else could answer to -------------------------------------------------

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
    started = box(*PYTORCH_CHECKED, "--health-interval", "1s", *hostile(hostile_workspace))
    started.wait_for_log(r"launcher: PyTorch .*\n", timeout=120)
    for name in ("banner", "url", "settings", "plan", "detect", "doctor", "healthcheck"):
        started.exec("launcher", name, check=False)
    started.exec("launcher", "exec", "--", "true")
    started.kill("HUP")
    started.wait_for_log("reloaded")
    assert poll(lambda: started.health() == "healthy", timeout=20)
    assert box.run("launcher", "doctor", options=hostile(hostile_workspace)).returncode == 11
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
    script = f"rm -f {paths} && tee {paths} > /dev/null && chmod +x {paths}"
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
    started.exec("/usr/local/bin/launcher", "keys", "add", made_up_key(1))
    started.exec("env", "true", user="dev")
    assert "1000-env" in ran(started), "the trap does not work"
    assert [name for name in ran(started) if name.startswith("0-")] == []


def test_the_health_check_runs_no_program_of_the_user_environment(box: Boxes) -> None:
    """Docker runs it as root, with the container's PATH."""
    started = box(*SSH_ALONE, "--health-interval", "1s")
    started.wait_for_banner()
    plant(started, "launcher")
    seen = checks(started)
    # The first of these may have begun before.
    assert poll(lambda: len(checks(started) - seen) >= 2, timeout=20)
    started.exec("/opt/venv/bin/launcher", "url", check=False, user="dev")
    assert ran(started) == ["1000-launcher"]


def checks(box: Box) -> set[str]:
    """Return when Docker began the last checks of the box's health; it remembers five."""
    return {one["Start"] for one in box.state()["Health"]["Log"] or ()}


def writable_by_others(top: Path, path: str) -> set[Path]:
    """Return the folders of a PATH, and those above them, that somebody but root may change."""
    folders = {above for name in path.split(":") for above in (Path(name), *Path(name).parents)}
    assert Path("/usr/bin") in folders
    others_write = stat.S_IWGRP | stat.S_IWOTH
    seen = {folder: (top / folder.relative_to("/")).stat() for folder in folders}
    return {name for name, it in seen.items() if it.st_uid or it.st_mode & others_write}


def test_root_s_path_is_root_s(services: Box) -> None:
    """Of what supervise starts as root.

    PID 1 and supervise themselves were given the container's PATH, and put it aside: what they run
    is tried above.
    """
    started = [
        process
        for process in processes(services)
        if process.uid == 0 and b"/opt/launcher/entrypoint.py" not in process.cmdline
    ]
    paths = {
        entry.decode().partition("=")[2]
        for process in started
        for entry in process.environ
        if entry.startswith(b"PATH=")
    }
    assert b"watch" in {process.cmdline[-1] for process in started}
    assert paths
    for path in paths:
        assert writable_by_others(started[0].folder / "root", path) == set()


@pytest.mark.parametrize("door", ["notebook", "jupyter_terminal", "ssh_command", "ssh_login_shell"])
def test_a_user_s_path_has_one_folder_of_the_user_s(services: Box, door: str) -> None:
    """So that no other program of the system can be stood in for."""
    path = doors.DOORS[door](services, "echo $PATH").strip()
    environment = {Path("/opt/venv"), Path("/opt/venv/bin")}
    assert writable_by_others(processes(services)[0].folder / "root", path) == environment


# --- powers -----------------------------------------------------------------------------------

# linux/capability.h: those that Docker gives, by their numbers.
# fmt: off
CAPABILITIES = {
    0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 4: "FSETID", 5: "KILL", 6: "SETGID", 7: "SETUID",
    8: "SETPCAP", 10: "NET_BIND_SERVICE", 13: "NET_RAW", 18: "SYS_CHROOT", 27: "MKNOD",
    29: "AUDIT_WRITE", 31: "SETFCAP",
}
# fmt: on
DOCUMENTED_CAPABILITIES = {
    pages.literals(name)[0]: needed == "yes"
    for name, needed, *_ in pages.table("security.md", "What each privilege is for", "capability")
}


def test_every_capability_is_explained(services: Box) -> None:
    status = (processes(services)[0].folder / "status").read_text()
    (mask,) = re.findall(r"^CapBnd:\t(\w+)$", status, re.MULTILINE)
    given = {number for number in range(64) if int(mask, 16) >> number & 1}
    assert {CAPABILITIES.get(number, number) for number in given} == set(DOCUMENTED_CAPABILITIES)


def test_the_capabilities_called_needed_are_those_that_the_banner_asks_for() -> None:
    """And that test_identity starts a box with, where nothing is missed."""
    needed = {name for name, needed in DOCUMENTED_CAPABILITIES.items() if needed}
    assert needed == {*BECOME_ANOTHER, *LOGIN, *TERMINAL}


def test_setuid_programs_are_those_of_the_page(services: Box) -> None:
    """A new one is thought about: each is a way to powers that its caller does not have."""
    find = ("find", "/", "-xdev", "-type", "f", "-perm", "/6000", "-printf", r"%p %m %u %g\n")
    found = set()
    for line in services.exec(*find, check=False).stdout.splitlines():  # processes come and go
        path, mode, owner, group = line.split()
        found.add((path, mode, owner if int(mode, 8) & stat.S_ISUID else group))
    rows = pages.table("security.md", "What each privilege is for", "program")
    assert found == {(pages.literals(path)[0], mode, whose) for path, mode, whose, _ in rows}


# --- what everybody uses ----------------------------------------------------------------------


def test_devices_stay_root_s(box: Boxes, services: Box) -> None:
    """Standard input is /dev/null where nobody gave one; it is handed to no user."""
    about = ("stat", "--format", "%U %a", "/dev/null", "/dev/zero", "/dev/urandom")
    assert services.exec(*about).stdout.splitlines() == ["root 666"] * 3
    assert box.run(*about).stdout.decode().splitlines() == ["root 666"] * 3


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


def test_a_supervisor_client_that_hangs_up_does_not_end_the_box(services: Box) -> None:
    """An answer to somebody who is gone raises SIGPIPE, whose default is to kill."""
    services.exec("/opt/launcher/bin/python", "-I", "-", stdin=CALL_AND_HANG_UP)
    # This one is answered, so all of those have been.
    status = ("/opt/launcher/bin/supervisorctl", "-c", "/etc/launcher/supervisord.conf", "status")
    answer = services.exec(*status, env={"LAUNCHER_RUN_DIR": "/run/launcher"}, check=False)
    assert re.findall(r"^box:(\w+) +(?:RUNNING|STARTING)", answer.stdout, re.MULTILINE) == [
        "jupyter",
        "sshd",
        "watch",
    ]
