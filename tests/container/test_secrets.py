"""Who can see the token, the password and the host key: root, and nobody by accident."""

from __future__ import annotations

import pytest

from tests.container import kernel
from tests.container.box import BANNER, Box, Boxes
from tests.container.engine import poll
from tests.container.login import PASSWORD, login
from tests.container.processes import processes

NOBODY = 65534


@pytest.fixture(scope="module")
def started(shared_box: Boxes) -> Box:
    return shared_box()


@pytest.fixture(scope="module")
def secrets(started: Box) -> list[str]:
    return secrets_of(started)


def secrets_of(box: Box) -> list[str]:
    """Return the token and password of the banner, and the body of the private host key."""
    banner = box.wait_for_banner()
    password = PASSWORD.search(banner)
    assert password
    token = kernel.connect(box).token
    key = box.exec("cat", "/var/lib/launcher/ssh_host_ed25519_key").stdout.splitlines()[3]
    assert len(key) > 40, "a line of its base64"
    return [token, password[1], key]


def test_secrets_are_in_the_banner_and_nowhere_else_in_the_log(
    started: Box, secrets: list[str]
) -> None:
    started.wait_for_log(r"launcher: PyTorch .*\n", timeout=120)
    log = started.logs()
    banner = BANNER.search(log)
    assert banner
    shown = [banner[0].count(secret) for secret in secrets]
    assert shown == [1, 1, 0], "the token, the password, and nothing of the private key"
    assert [secret for secret in secrets if secret in log.replace(banner[0], "")] == []


# --- processes --------------------------------------------------------------------------------


def showing(box: Box, secret: str) -> set[tuple[str, str, int]]:
    """Return the processes that show it, where they do, and whose they are."""
    return {
        (place, process.name, process.uid)
        for process in processes(box)
        for place, words in (("cmdline", process.cmdline), ("environ", process.environ))
        if any(secret.encode() in word for word in words)
    }


def test_no_process_shows_a_secret(started: Box, secrets: list[str]) -> None:
    """Not with a kernel, a terminal and a login in use."""
    server = kernel.connect(started)
    with server.kernel(), server.terminal() as terminal, login(started).paramiko():
        assert terminal.run("echo here") == "here\n"
        assert set().union(*(showing(started, secret) for secret in secrets)) == set()


def test_a_process_that_shows_something_is_found(started: Box) -> None:
    with kernel.connect(started).kernel() as notebook:
        notebook.run(
            "import subprocess\n"
            "env = {'LOGIN': 'my password'}\n"
            "child = subprocess.Popen(['sh', '-c', 'sleep 1000; exit', 'my password'], env=env)"
        )
        shown = {("cmdline", "sh", 1000), ("environ", "sh", 1000), ("environ", "sleep", 1000)}
        assert poll(lambda: showing(started, "my password") == shown, timeout=10)


def test_a_token_from_the_environment_stays_with_root(box: Boxes) -> None:
    """Docker puts it into PID 1's environment; no kernel or login inherits it."""
    token = "a token, chosen by the user"
    started = box("-e", f"JUPYTER_TOKEN={token}", "-e", "SOMETHING=else")
    server = kernel.connect(started)
    assert server.token == token
    with server.kernel() as notebook, login(started).paramiko() as client:
        client.exec_command("sleep 1000", get_pty=True)
        assert poll(lambda: "sleep" in {p.name for p in processes(started)}, timeout=10)
        assert {uid for _, _, uid in showing(started, token)} == {0}
        arrived = {(name, uid) for _, name, uid in showing(started, "SOMETHING=else")}
        assert ("sleep", 1000) in arrived
        names = notebook.run("import os; print(*sorted(os.environ))").split()
    assert "SOMETHING" in names
    assert [name for name in names if "TOKEN" in name] == []


# --- files ------------------------------------------------------------------------------------


def run_inside(box: Box, script: str, *, user: str = "0", **values: object) -> str:
    """Run a script in the launcher's Python; the values reach it on no command line."""
    assigned = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    python = ("/opt/launcher/bin/python", "-I", "-")
    return box.exec(*python, user=user, stdin=assigned + script).stdout


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
def test_no_secret_can_be_read_by_others(started: Box, secrets: list[str], group: int) -> None:
    stranger = f"{NOBODY}:{group}"
    assert run_inside(started, FIND_IN_FILES, user=stranger, secrets=secrets) == ""


def test_secrets_are_where_they_belong(started: Box, secrets: list[str]) -> None:
    """The same search, as root, finds them: in the state, in this run's files, nowhere else."""
    found = run_inside(started, FIND_IN_FILES, secrets=secrets).splitlines()
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
    "/run/launcher/environment.sh": "root:root 600",
    "/run/launcher/health.json": "root:root 644",
    "/run/launcher/jupyter": "dev:dev 700",
    "/run/launcher/jupyter.json": "dev:dev 600",
    "/run/launcher/log": "root:root 700",
    "/run/launcher/login.sh": "root:root 600",
    "/run/launcher/machine.json": "root:root 600",
    "/run/launcher/plan.json": "root:root 600",
    "/run/launcher/services": "root:root 700",
    "/run/launcher/services/jupyter.json": "root:root 600",
    "/run/launcher/services/sshd.json": "root:root 600",
    "/run/launcher/ssh": "root:root 755",
    "/run/launcher/ssh/authorized_keys": "root:root 644",
    "/run/launcher/ssh/sshd_config": "root:root 600",
    "/run/launcher/sudoers": "root:root 755",
    "/run/launcher/sudoers/user": "root:root 440",
    "/run/launcher/supervisor.sock": "root:root 700",
    "/run/launcher/supervisord.pid": "root:root 644",
    "/run/launcher/user": "root:root 755",
    "/run/launcher/user/environment.sh": "dev:dev 600",
    "/run/launcher/user/login.sh": "dev:dev 600",
    "/var/lib/launcher": "root:root 700",
    "/var/lib/launcher/password": "root:root 600",
    "/var/lib/launcher/ssh_host_ed25519_key": "root:root 600",
    "/var/lib/launcher/ssh_host_ed25519_key.pub": "root:root 644",
    "/var/lib/launcher/ssh_host_rsa_key": "root:root 600",
    "/var/lib/launcher/ssh_host_rsa_key.pub": "root:root 644",
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


def test_files_have_the_documented_modes(started: Box) -> None:
    """Every file, so that a new one is thought about.

    Left out is the sticky bit, which Jupyter sets on a folder of its own.
    """
    made_last = ("test", "-e", "/var/lib/launcher/ssh_host_rsa_key")
    assert poll(lambda: started.exec(*made_last, check=False).returncode == 0, timeout=60)
    listed = run_inside(started, LIST_MODES, inner=["jupyter", "log"])
    assert dict(line.split(" ", 1) for line in listed.splitlines()) == MODES
