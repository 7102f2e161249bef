"""Who can see the token, the password and the host key: root, and nobody by accident."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing import pages
from testing.container import kernel
from testing.container.box import BANNER, PYTORCH_CHECKED, Box, Boxes
from testing.container.engine import poll
from testing.container.login import PASSWORD, login
from testing.container.processes import processes
from tests.unit.box.test_ssh_keys import made_up_key

NOBODY = 65534


@pytest.fixture(scope="module")
def started(shared_box: Boxes) -> Box:
    return shared_box(*PYTORCH_CHECKED)


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


def run_inside(box: Box, script: str, *, as_user: str = "0", **values: object) -> str:
    """Run a script in the launcher's Python; the values reach it on no command line."""
    assigned = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    python = ("/opt/launcher/bin/python", "-I", "-")
    return box.exec(*python, user=as_user, stdin=assigned + script).stdout


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
    assert run_inside(started, FIND_IN_FILES, as_user=stranger, secrets=secrets) == ""


def test_secrets_are_where_the_page_says(started: Box, secrets: list[str]) -> None:
    """The same search, as root, finds them: in each file that is called a secret, in no other."""
    found = run_inside(started, FIND_IN_FILES, secrets=secrets).splitlines()
    assert {row.path for path in found for row in rows_of(path)} == {
        row.path for row in FILES if row.secret and row.when == "always"
    }
    assert [path for path in found if not rows_of(path)] == []


@dataclass(frozen=True)
class DocumentedFile:
    """A row of docs/security.md, "Where secrets live"."""

    path: str  # with placeholders; a folder ends with a slash
    owner: str  # "root" or "the user"; so is the group
    mode: str
    when: str  # "always", or what it takes
    secret: bool

    def is_for(self, path: str) -> bool:
        return re.fullmatch(pages.pattern(self.path), path) is not None


FILES = [
    DocumentedFile(pages.literals(path)[0], owner, mode, when, what.startswith("**secret**"))
    for path, owner, mode, when, what in pages.table("security.md", "Where secrets live")
]
# What Jupyter keeps in there is its own, one row for all.
PRIVATE = "/run/launcher/jupyter/"


def rows_of(path: str) -> list[DocumentedFile]:
    top = PRIVATE if path.startswith(PRIVATE) else path
    return [row for row in FILES if row.is_for(top)]


LIST_FILES = """
import os
for top in ("/run/launcher", "/var/lib/launcher"):
    for folder, folders, files in os.walk(top):
        print_of = [folder + "/", *(f"{folder}/{name}" for name in files)]
        for path in print_of if folder + "/" != private else [private]:
            info = os.lstat(path)
            names = {0: "root", user: "the user"}
            owners = {names.get(number, number) for number in (info.st_uid, info.st_gid)}
            # Without the sticky bit, which Jupyter sets on its folder.
            print(path, f"0{info.st_mode & 0o777:o}", *owners, sep="\\t")
        folders[:] = [name for name in folders if f"{folder}/" != private]
"""


def undocumented(box: Box, user: int) -> tuple[list[str], set[str]]:
    """Return the files that the page does not describe so, and the rows that no file is of."""
    strange, missing = [], {row.path for row in FILES}
    for line in run_inside(box, LIST_FILES, user=user, private=PRIVATE).splitlines():
        path, mode, *owners = line.split("\t")
        missing -= {row.path for row in rows_of(path)}
        if [(row.mode, [row.owner]) for row in rows_of(path)] != [(mode, owners)]:
            strange.append(line)
    return strange, missing


def wait_for_the_last(box: Box) -> None:
    """Wait for the file that is made last: in the background, after the banner."""
    made_last = ("test", "-e", "/var/lib/launcher/ssh_host_rsa_key")
    assert poll(lambda: box.exec(*made_last, check=False).returncode == 0, timeout=60)


def test_files_are_those_of_the_page(started: Box) -> None:
    """Every file, its owner and mode, so that a new one is thought about."""
    wait_for_the_last(started)
    sometimes = {row.path for row in FILES if row.when != "always"}
    if started.exec("sh", "-c", "ls /usr/local/share/ca-certificates/*.crt", check=False).stdout:
        sometimes -= {"/run/launcher/ca-bundle.pem"}  # the base image has an authority of its own
    assert undocumented(started, user=1000) == ([], sometimes)


def test_files_that_are_not_always_there(box: Boxes, tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    tmp_path.chmod(0o755)
    read_only = (
        "--read-only",
        "--tmpfs",
        "/run",
        "--tmpfs",
        "/tmp",
        "-v",
        f"{tmp_path}:/workspace",
    )
    started = box(*read_only, *PYTORCH_CHECKED, "-e", "LAUNCHER_TLS=1")
    started.wait_for_banner()
    started.exec("launcher", "keys", "add", made_up_key(1))
    started.exec("sh", "-c", "(echo; echo two) >> /var/lib/launcher/password")
    started.restart()
    started.wait_for_log("password cannot be used: .* it is now password.unusable")
    assert poll(lambda: len(BANNER.findall(started.logs())) == 2, timeout=60)
    wait_for_the_last(started)
    said = ("test", "-e", "/run/launcher/said.log")
    assert poll(lambda: started.exec(*said, check=False).returncode == 0, timeout=60)
    assert undocumented(started, user=1234) == ([], set())
