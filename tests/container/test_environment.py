"""The container's environment behind every door, byte for byte."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import pytest

from testing.container import doors, kernel
from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.login import login
from tests.container.test_secrets import FIND_IN_FILES, NOBODY, run_inside

VALUES = {
    "T_QUOTES": "'\"'\"\\\"\\\\'",
    "T_BACKSLASHES": "\\n\\\\ \\",
    "T_SPACES": "  two  words\t ",
    "T_HASH": "a #b # c",
    "T_DOLLAR": "$HOME ${X} $(id) `id` `",
    "T_PERCENT": "%h %u %% %",
    "T_SEMICOLON": "a ;b; c & d | e > f",
    "T_EMPTY": "",
    "T_UTF8": "ü × 漢字 🚀",
    "T_CONTROL": "\x01\x1b[31m\x7f\r",
    "T_EQUALS": "=a=b=",
    "T_GLOB": "* ? [a-z] ~ !! {a,b}",
    "T_LINES": "\none\n\n'two'\n",
    "T_JSON": '{"a": ["b\\n", null]}\n',
    "T_64K": "x'\"$\\ " * 11_000,
    "T_64K_LINES": "x\n" * 32_768,
    "LD_LIBRARY_PATH": "/my/libraries:/and more",
    "PYTHONPATH": "/workspace/my modules",
    "https_proxy": "http://127.0.0.1:9",
}
SERVICE = {
    "REDIS_SERVICE_HOST": "10.0.0.11",
    "REDIS_SERVICE_PORT": "6379",
    "REDIS_PORT": "tcp://10.0.0.11:6379",
    "REDIS_PORT_6379_TCP_ADDR": "10.0.0.11",
}
LEFT_OUT = {
    **SERVICE,
    "JUPYTER_TOKEN": "a-token-of-the-user",
    "WEB_PASSWORD": "a-token-of-the-user",
    "ROOT_PASSWORD": "a-password-of-the-user",
    "ADMIN_SECRET": "named-by-the-user",
    "AWS_SECRET_KEY": "named-by-a-pattern",
}
SECRET = ("JUPYTER_TOKEN", "ROOT_PASSWORD", "ADMIN_SECRET", "AWS_SECRET_KEY")
NAMED = {"JUPYTER_ENV_VARS_TO_UNSET": "ADMIN_SECRET", "LAUNCHER_ENV_EXCLUDE": "AWS_*"}

PLANNED = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}

# Short enough for a terminal's line, and one line of ASCII whatever the values are.
DIGESTS = (
    "/opt/venv/bin/python -c 'import hashlib as h, json, os; print(json.dumps("
    "{os.fsdecode(n): h.md5(v).hexdigest() for n, v in os.environb.items()}))'"
)
# Docker itself gives these the container's variables, with all that is left out elsewhere.
OF_DOCKER = {"docker_exec_terminal", "docker_exec_interactive"}


def digest(value: str) -> str:
    return hashlib.md5(value.encode()).hexdigest()


def digests(box: Box, door: str) -> dict[str, str]:
    """Return a digest of each variable behind a door."""
    printed = doors.DOORS[door](box, DIGESTS)
    found = next((line for line in printed.splitlines() if line.startswith("{")), None)
    assert found, printed[-2000:]
    return dict(json.loads(found))


def differing(seen: Mapping[str, str], wanted: Mapping[str, str]) -> set[str]:
    return {name for name, value in wanted.items() if seen.get(name) != digest(value)}


@pytest.fixture(scope="module")
def box_of_all(shared_box: Boxes) -> Box:
    return shared_box("--gpus", "all", env={**VALUES, **LEFT_OUT, **NAMED})


# --- all doors, all values --------------------------------------------------------------------


@pytest.mark.parametrize("door", doors.DOORS)
def test_every_value_is_behind_every_door(box_of_all: Box, door: str) -> None:
    seen = digests(box_of_all, door)
    assert differing(seen, VALUES) == set()
    assert differing(seen, PLANNED) == set()
    if door not in OF_DOCKER:
        assert seen.keys() & LEFT_OUT.keys() == set()


@pytest.mark.parametrize("door", doors.DOORS)
def test_programs_are_the_workspace_s_behind_every_door(box_of_all: Box, door: str) -> None:
    where = "for name in python pip jupyter; do command -v $name; done"
    said = doors.DOORS[door](box_of_all, f"{where}; echo $HOME; id -un")
    *programs, home, user = said.splitlines()
    assert programs == [f"/opt/venv/bin/{name}" for name in ("python", "pip", "jupyter")]
    root = door in OF_DOCKER or door == "sudo_login"
    assert (home, user) == (("/root", "root") if root else ("/home/dev", "dev"))


def test_what_docker_exec_gives_is_kept(box_of_all: Box) -> None:
    env = {"CUDA_VISIBLE_DEVICES": "7", "T_EQUALS": "mine"}
    show = "echo $CUDA_VISIBLE_DEVICES $T_EQUALS"
    for words in (("bash", "-ic", show), ("launcher", "exec", "--", "sh", "-c", show)):
        assert box_of_all.exec(*words, env=env).stdout == "7 mine\n"


def test_apt_finds_the_proxy(box_of_all: Box) -> None:
    """`sudo CMD` begins with an empty environment, but for this; `sudo -E CMD` keeps the rest."""
    show = "printenv https_proxy T_EQUALS"
    access = login(box_of_all)
    assert access.ssh(f"sudo {show}").stdout == f"{VALUES['https_proxy']}\n"
    assert access.ssh(f"sudo -E {show}").stdout == f"{VALUES['https_proxy']}\n=a=b=\n"


def test_a_box_of_any_user_s(box: Boxes) -> None:
    """Started with --user, it cannot write /run: its shells look elsewhere, too."""
    started = box("--gpus", "all", "--user", "4321:0", "-e", "T_LINES=a\nb")
    started.wait_for_banner()
    for shell in ("-ic", "-lc"):
        said = started.exec("bash", shell, "command -v python; echo $CUDA_DEVICE_ORDER").stdout
        assert said == "/opt/venv/bin/python\nPCI_BUS_ID\n"
    own = doors.DOORS["notebook"](started, 'printf %s "$T_LINES"')
    assert own == "a\nb\n"


def test_files_travel(box_of_all: Box, tmp_path: Path) -> None:
    """sftp, scp by both of its protocols, and rsync: nothing that a shell prints is in the way."""
    access = login(box_of_all)
    (tmp_path / "sent").write_bytes(bytes(range(256)) * 100)
    ssh, there = shlex.join(access.command()[:-1]), access.command()[-1]
    done = [
        access.scp(str(tmp_path / "sent"), ":/tmp/by-scp"),
        access.scp(str(tmp_path / "sent"), ":/tmp/by-old-scp", "-O"),
        access.sftp(f"put {tmp_path}/sent /tmp/by-sftp\n"),
        access.run(["rsync", "-e", ssh, str(tmp_path / "sent"), f"{there}:/tmp/by-rsync"]),
    ]
    said = [one.stderr.removeprefix("Connected to 127.0.0.1.\n") for one in done]
    assert ([one.returncode for one in done], said) == ([0] * 4, [""] * 4)
    summed = access.ssh("cat /tmp/by-* | md5sum").stdout.split()[0]
    assert summed == hashlib.md5((tmp_path / "sent").read_bytes() * 4).hexdigest()


# --- who can read the values ------------------------------------------------------------------


@pytest.mark.parametrize("group", [NOBODY, 1000], ids=["others", "the-user-s-group"])
def test_no_value_is_in_a_file_of_others(box_of_all: Box, group: int) -> None:
    box_of_all.wait_for_banner()
    values = [VALUES["LD_LIBRARY_PATH"], VALUES["T_UTF8"], *(LEFT_OUT[name] for name in SECRET)]
    found = run_inside(box_of_all, FIND_IN_FILES, as_user=f"{NOBODY}:{group}", secrets=values)
    assert found == ""


def test_what_is_left_out_is_in_no_file_of_the_user_s(box_of_all: Box) -> None:
    """But for Jupyter's own configuration, which has its token."""
    box_of_all.wait_for_banner()
    hidden = [LEFT_OUT[name] for name in SECRET if name != "JUPYTER_TOKEN"]
    assert run_inside(box_of_all, FIND_IN_FILES, as_user="1000:1000", secrets=hidden) == ""
    known = [VALUES["LD_LIBRARY_PATH"]]  # the search finds something
    assert "/run/launcher/user/" in run_inside(
        box_of_all, FIND_IN_FILES, as_user="1000:1000", secrets=known
    )


def test_root_runs_nothing_that_the_user_can_write(box: Boxes) -> None:
    started = box(*SSH_ALONE)
    access = login(started)
    for name in ("environment.sh", "login.sh"):
        line = "echo 'touch /tmp/run-by-$(id -un)' | sed 's/-by-/&/'"
        assert access.ssh(f"{line} >> /run/launcher/user/{name}").returncode == 0
    for command in ("sudo -i true", "sudo bash -ic true", "bash -lc true"):
        assert access.ssh(command).returncode == 0
    started.exec("bash", "-ic", "true")
    assert started.exec("sh", "-c", "ls -d /tmp/run-by-*").stdout == "/tmp/run-by-dev\n"


# --- too much ---------------------------------------------------------------------------------

MANY_DOORS = (
    "notebook", "jupyter_terminal", "ssh_command", "ssh_login_shell", "sudo_login", "tmux",
    "docker_exec_interactive", "launcher_exec",
)  # fmt: skip


def env_file(folder: Path, variables: Mapping[str, str]) -> tuple[str, str]:
    """Write what is too long for a command line."""
    path = folder / "variables"
    path.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    return "--env-file", str(path)


@pytest.mark.long
def test_people_get_in_with_2000_variables_of_a_megabyte(box: Boxes, tmp_path: Path) -> None:
    """More of them, and more bytes, than sshd can carry."""
    variables = {f"V{n:04}": f"{n:04} " * 100 for n in range(2000)}
    assert sum(len(f"{name}={value}") for name, value in variables.items()) > 1_000_000
    started = box(*env_file(tmp_path, variables))
    assert "left out" not in started.wait_for_banner()
    missing = [(door, differing(digests(started, door), variables)) for door in MANY_DOORS]
    assert missing == [(door, set()) for door in MANY_DOORS]


def test_what_no_program_can_be_started_with_is_named(box: Boxes, tmp_path: Path) -> None:
    """Docker starts PID 1 with it; a kernel with a few more arguments would not start."""
    variables = {f"V{n:02}": f"{n:04}" * (15_000 + n) for n in range(32)}
    started = box(*env_file(tmp_path, variables))
    banner = started.wait_for_banner()
    lost = {f"V{n:02}" for n in range(26, 32)}
    assert all(name in banner for name in ("V31", "V30", "V29", "V28", "V27", "and 1 more"))
    assert variables["V00"][:40] not in banner
    kept = {name: value for name, value in variables.items() if name not in lost}
    for door in ("notebook", "ssh_command", "launcher_exec"):
        seen = digests(started, door)
        assert (differing(seen, kept), seen.keys() & lost) == (set(), set())
    assert kernel.connect(started).run_cell("import os; print(os.environ['V00'][:4])") == "0000\n"
