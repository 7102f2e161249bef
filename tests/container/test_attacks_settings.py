"""Settings, accounts and state that once ended badly late, in real containers."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import paramiko
import pytest

from launcher.settings.table import TABLE, Setting
from testing.container import kernel
from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.engine import DOCKER, poll
from testing.container.login import KeyPair, Login, make_key
from testing.container.terminal import Terminal

LEAST = ("SETUID", "SETGID", "CHOWN", "KILL", "SYS_CHROOT", "AUDIT_WRITE")
CAPABILITIES = ("--cap-drop", "ALL", *(part for one in LEAST for part in ("--cap-add", one)))
ROOTS_PORTS = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=1024")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("keys"))


def answers(box: Box) -> bool:
    box.wait_for_banner()
    return kernel.connect(box).answers()


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tmpfs", "/run/launcher:nr_inodes=30"), "cannot write /run/launcher: it is full"),
        ((*ROOTS_PORTS, "-e", "JUPYTER_PORT=80"), "JUPYTER_PORT=80: this port needs root here"),
    ],
    ids=["inodes", "root's"],
)
def test_it_ends_with_78_and_says_so(box: Boxes, options: tuple[str, ...], said: str) -> None:
    started = box(*options)
    assert started.wait() == 78
    assert said in started.logs()
    assert "Traceback" not in started.logs()


@pytest.mark.parametrize("url", ["/a+b", "/x(y", "/a/../b"])
def test_what_cannot_be_used_is_said_all_at_once(box: Boxes, url: str) -> None:
    refused = {
        "NB_UMASK=777": "NB_UMASK='777': expected an octal number that leaves the owner",
        f"LAUNCHER_JUPYTER_BASE_URL={url}": "expected the path of a URL",
        "LAUNCHER_RUN_DIR=/run/a%(b)s": "expected an absolute path of at most 80 bytes",
        "NB_UID=٣": "NB_UID='٣': expected a number",
        "JUPYTER_PORT=٨٨٨٨": "expected a port number",
        f"LAUNCHER_GPU_MIN_FREE={'9' * 309}G": "expected a size such as 20GiB",
    }
    started = box(*(word for given in refused for word in ("-e", given)))
    assert started.wait() == 78
    assert [said for said in refused.values() if said not in started.logs()] == []
    assert "Traceback" not in started.logs()


HOSTILE = "/tmp/a'b\"c $(touch /tmp/run) `touch /tmp/run` %s;"


def hostile_settings() -> list[str]:
    """Return the settings that take a hostile value for one: no number, no word of theirs."""

    def takes(row: Setting) -> bool:
        with contextlib.suppress(ValueError):
            row.parse(HOSTILE)
            return True
        return False

    return [row.name for row in TABLE if takes(row)]


SERVES = {
    "JUPYTER_TOKEN", "LAUNCHER_METRICS_TOKEN", "PUBLIC_KEY", "LAUNCHER_KEYS_DIR", "WORKSPACE",
    "LAUNCHER_STATE_DIR",
}  # fmt: skip


def test_hostile_values_that_are_taken_are_data_everywhere(box: Boxes) -> None:
    """In the log, in every file that is written, for Jupyter, sshd and the shells."""
    given = dict.fromkeys(SERVES & {*hostile_settings()}, HOSTILE)
    given |= {"LAUNCHER_METRICS_TOKEN": f"{HOSTILE}."}  # the same as Jupyter's is refused
    started = box("-v", HOSTILE, env=given)
    assert "NOT READY" not in started.wait_for_banner()
    server = kernel.connect(started)
    with server.kernel() as notebook:
        assert notebook.run("import os; print(os.getcwd())") == f"{HOSTILE}\n"
    for shell in ("bash", "sh"):
        said = started.exec(shell, "-lc", "printenv HF_HOME; pwd", user="dev").stderr
        assert said == ""
    assert started.exec("test", "-e", "/tmp/run", check=False).returncode == 1
    assert "Traceback" not in started.logs()


@pytest.mark.parametrize("name", sorted({*hostile_settings()} - SERVES))
def test_hostile_values_that_cannot_serve_end_the_start(box: Boxes, name: str) -> None:
    started = box(env={name: HOSTILE})
    # A hook may still make the interpreter: that there is none is seen when it is to run.
    assert started.wait() == (70 if name == "LAUNCHER_PYTHON" else 78)
    assert ("jupyter" if name == "LAUNCHER_PYTHON" else name[:12]) in started.logs()
    assert "Traceback" not in started.logs()


@pytest.mark.parametrize(
    "options",
    [
        ("--hostname", "bücher", "-e", "LAUNCHER_TLS=1", "-e", "LAUNCHER_RUN_DIR=/run/a box's"),
        ("-e", "LAUNCHER_JUPYTER_BASE_URL=/user/a@b.c/x=y,z", "-e", "LAUNCHER_RUN_DIR=/tmp/run"),
    ],
    ids=["host-name", "base-url"],
)
def test_it_serves_all_the_same(box: Boxes, options: tuple[str, ...]) -> None:
    started = box(*options)
    assert "NOT READY" not in started.wait_for_banner()
    assert "Traceback" not in started.logs()


def test_ports_that_are_root_s_turn_ssh_off_and_say_why(box: Boxes) -> None:
    started = box(*ROOTS_PORTS, *CAPABILITIES)
    banner = re.sub(r"\s+", " ", started.wait_for_banner())
    assert "port 22 needs CAP_NET_BIND_SERVICE: set SSH_PORT to 1024 or higher" in banner
    assert "NOT READY" not in banner


def test_another_port_is_all_it_takes(box: Boxes, key: KeyPair) -> None:
    publish = ("-p", "127.0.0.1::8888", "-p", "127.0.0.1::2222")
    environ = {"SSH_PORT": "2222", "PUBLIC_KEY": key.public}
    started = box(*ROOTS_PORTS, *CAPABILITIES, *publish, env=environ)
    started.wait_for_banner()
    assert Login(started.port(2222), "dev", key).ssh("echo", "in").stdout == "in\n"


# --- accounts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("uid", [1, 2, 3])
def test_an_account_of_the_base_s_brings_no_home_along(box: Boxes, uid: int) -> None:
    home = ("--tmpfs", "/home:size=20m,mode=755")  # /dev/urandom would fill it
    done = box.run("sh", "-c", "id -u; ls -A ~", options=(*home, "-e", f"NB_UID={uid}"))
    assert done.returncode == 0
    told, *files = done.stdout.decode().split()
    assert int(told) == uid
    assert set(files) <= {".bashrc", ".profile", ".bash_logout"}


def test_a_workspace_of_nobody_s_makes_nobody_root(box: Boxes, tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    tmp_path.chmod(0o755)
    started = box(*SSH_ALONE, "-v", f"{tmp_path}:/workspace")
    banner = re.sub(r"\s+", " ", started.wait_for_banner())
    assert "Runs as dev (uid 1000)" in banner
    assert "dev (uid 1000) cannot write /workspace" in banner


# --- state ------------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    return folder


def a_key(path: Path, passphrase: str = "") -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(argv, check=True)


def test_a_public_half_of_another_key_is_mended(box: Boxes, state: Path, key: KeyPair) -> None:
    a_key(state / "ssh_host_ed25519_key")
    a_key(state / "other")
    (state / "other.pub").rename(state / "ssh_host_ed25519_key.pub")
    (state / "token").write_bytes(b"tok\0en\nsecond")
    started = box("-v", f"{state}:/var/lib/launcher", "-e", f"PUBLIC_KEY={key.public}")
    assert "NOT READY" not in started.wait_for_banner()
    assert answers(started)
    assert "ssh_host_ed25519_key.pub cannot be used: it is not the public half" in started.logs()
    assert "/token cannot be used: " in started.logs()


def test_a_host_key_with_a_passphrase_ends_it(box: Boxes, state: Path) -> None:
    a_key(state / "ssh_host_ed25519_key", "secret")
    started = box("-v", f"{state}:/var/lib/launcher")
    assert started.wait() == 78
    assert "ssh_host_ed25519_key cannot be used: it has a passphrase" in started.logs()


def test_a_read_only_mount_with_all_of_it_serves(box: Boxes, state: Path, key: KeyPair) -> None:
    """As Kubernetes mounts a secret: each name a link to ..data, which is one too."""
    data = state / "..2026_01_01"
    data.mkdir()
    (data / "token").write_text("a-token-of-a-secret")
    (data / "password").write_text("a-password-of-a-secret")
    a_key(data / "ssh_host_ed25519_key")
    (state / "..data").symlink_to(data.name)
    for path in data.iterdir():
        path.chmod(0o400)
        (state / path.name).symlink_to(f"..data/{path.name}")
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", data / "ssh_host_ed25519_key"], capture_output=True, text=True
    ).stdout.split()[1]
    started = box("-v", f"{state}:/var/lib/launcher:ro", "-e", f"PUBLIC_KEY={key.public}")
    banner = started.wait_for_banner()
    assert "NOT READY" not in banner
    assert "token=a-token-of-a-secret" in banner
    assert printed in banner
    assert "Traceback" not in started.logs()


# --- what a kept home says --------------------------------------------------------------------


def test_a_kept_home_s_certificate_does_not_make_the_url_lie(box: Boxes, tmp_path: Path) -> None:
    configuration = tmp_path / ".jupyter"
    configuration.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout",
         configuration / "k.pem", "-out", configuration / "c.pem"], check=True, capture_output=True
    )  # fmt: skip
    (configuration / "jupyter_server_config.py").write_text(
        "c.ServerApp.certfile='/home/dev/.jupyter/c.pem'\n"
        "c.ServerApp.keyfile='/home/dev/.jupyter/k.pem'\nc.ServerApp.sock='/tmp/sock'\n"
    )
    for path in (tmp_path, configuration, *configuration.iterdir()):
        os.chown(path, 1000, 1000)
    assert answers(box("-v", f"{tmp_path}:/home/dev"))


# --- logs -------------------------------------------------------------------------------------


def test_a_refused_request_s_token_is_in_no_log(box: Boxes) -> None:
    started = box()
    started.wait_for_banner()
    token = started.exec("cat", "/var/lib/launcher/token").stdout
    before = started.logs().count(token)
    for path in (
        f"/api/contents/nope?token={token}",
        f"/api/kernels/00000000-0000-0000-0000-000000000000/channels?token={token}",
        f"/files/nope?token={token}",
        f"/view/nope?token={token}",
        f"/nbconvert/html/nope?token={token}",
        f"/login?next=%2Fx%3Ftoken%3D{token}",
        f"/nope?token={token}",
    ):
        started.exec("curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:8888{path}")
    started.exec("curl", "-s", "-o", "/dev/null", "http://127.0.0.1:8888/api/last-of-them")
    assert poll(lambda: "last-of-them" in started.logs(), timeout=20)
    assert started.logs().count(token) == before
    assert "nope?token=[secret]" in started.logs()


@pytest.mark.long
def test_a_flood_is_cut_and_said(box: Boxes, tmp_path: Path) -> None:
    """As of a server that cannot accept connections, and says so in a loop."""
    # Whatever is said right after a flood may be left out too: it is said until it is seen.
    over = "while :; do echo it is over; sleep 1; done"
    flood = f"yes this is a flood | head -c 24M; {over}"
    (tmp_path / "flood.conf").write_text(f"[program:flood]\ncommand=sh -c '{flood}'\n")
    begin = time.monotonic()
    started = box("-v", f"{tmp_path}:/etc/launcher/supervisor.d:ro")
    started.wait_for_log("lines are left out here: more than 128 KiB a second", timeout=90)
    started.wait_for_log(r"flood \| it is over", timeout=90)
    # 4 MiB at once, then 128 KiB a second; Docker's JSON makes 100 bytes of a line of sixteen.
    # All of it would be 160 MiB.
    path = Path(started.inspect()["LogPath"])
    seconds = time.monotonic() - begin
    assert path.stat().st_size < 7 * ((4 << 20) + seconds * 128 * 1024)
    assert answers(started)


def test_hundreds_of_reloads_at_once_lose_none(box: Boxes, tmp_path: Path, key: KeyPair) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    started = box(*SSH_ALONE, "-v", f"{keys}:/etc/launcher/authorized_keys.d:ro")
    started.wait_for_banner()
    hups = "import os, time\nfor _ in range(200):\n    os.kill(1, 1)\n    time.sleep(0.01)\n"
    started.exec("/opt/launcher/bin/python", "-I", "-c", hups)
    (keys / "mine.pub").write_text(f"{key.public}\n")
    started.kill("HUP")
    login = Login(started.port(22), "dev", key)

    def is_let_in() -> bool:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            return login.is_let_in()
        return False  # sshd takes no connection while it reads its keys anew

    assert poll(is_let_in, timeout=60, interval=1)
    assert "not reloaded" not in started.logs()


# --- terminals and namespaces -----------------------------------------------------------------

TYPE_INTO_THE_TERMINAL = """
import fcntl, os, termios
for path in ("/dev/stdin", "/dev/tty"):
    try:
        terminal = open(path)
    except OSError:
        continue
    with terminal:
        for c in b"id > /tmp/typed\\n":
            try:
                fcntl.ioctl(terminal, termios.TIOCSTI, bytes([c]))
            except OSError:
                break
print("typed" + "-it")
"""


@pytest.mark.parametrize("redirected", ["", "< /dev/null"])
def test_a_program_of_the_user_s_types_into_no_terminal_of_root_s(
    box: Boxes, redirected: str
) -> None:
    started = box(*SSH_ALONE, "-e", "GRANT_SUDO=no")
    started.wait_for_banner()
    script = "/workspace/sti.py"
    started.exec("sh", "-c", f"cat > {script}", user="dev", stdin=TYPE_INTO_THE_TERMINAL)
    docker = started.docker
    shell = Terminal([DOCKER, "exec", "-it", started.name, "/bin/bash"], docker.environment)
    try:
        shell.type(f"launcher exec -- python3 {script} {redirected}; echo status-$?\r")
        shell.read_until("typed-it")
        shell.read_until("status-0")
        shell.type("echo still-$((40 + 2))\r")
        shell.read_until("still-42")
        shell.type("echo owner-$(stat -c %u $(tty))-\r")  # whose it is may read what root types
        shell.read_until("owner-0-")
    finally:
        shell.close()
    assert started.exec("test", "-e", "/tmp/typed", check=False).returncode == 1


def test_a_box_with_the_host_s_processes_ends_no_kernel_of_another(box: Boxes) -> None:
    first = box("-e", "NB_UID=4321")
    server = kernel.connect(first)
    # The kernel's parent gets a number that no process of the host has.
    first.exec("sh", "-c", "echo 4000000 > /proc/sys/kernel/ns_last_pid || :", check=False)
    with server.kernel() as notebook:
        notebook.run("x = 42")
        second = box("-e", "NB_UID=4321", "--pid", "host")
        second.wait_for_banner()
        second.exec("launcher", "restart", "jupyter")
        assert notebook.run("print(x)") == "42\n"
