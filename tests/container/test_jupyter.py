"""Jupyter in the box: behind a proxy's path, over https, restarted alone, switched off."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from testing.container import doors, kernel
from testing.container.box import Box, Boxes
from testing.container.engine import poll
from testing.container.login import login

PREFIX = "/notebook/team-a/mine"
ARGUMENT = "--ServerApp.root_dir=/home/dev"


# --- a path, https, more arguments -----------------------------------------------------------


@pytest.fixture(scope="module")
def behind(shared_box: Boxes) -> Box:
    """A box behind a proxy that keeps its path, with names of other images."""
    return shared_box(env={"NB_PREFIX": PREFIX, "GEN_CERT": "yes", "NOTEBOOK_ARGS": ARGUMENT})


def test_the_printed_url_has_the_path_and_opens(behind: Box) -> None:
    url = kernel.printed_url(behind.wait_for_banner())
    assert re.match(rf"https://127\.0\.0\.1:8888{PREFIX}/lab\?token=", url)
    server = kernel.connect(behind)
    assert "<title>JupyterLab</title>" in kernel.open_page(server.page_url).text
    assert server.request("/api/contents", token="wrong").status == 403


def test_ready_and_healthy_there(behind: Box) -> None:
    assert " Ready " in behind.wait_for_banner()
    assert behind.exec("launcher", "healthcheck").stdout == ""


def test_more_arguments_are_jupyters_and_on_no_command_line(behind: Box) -> None:
    behind.exec("touch", "/home/dev/opened-here", user="dev")
    listed = kernel.connect(behind).request("/api/contents").json()["content"]
    assert "opened-here" in [entry["name"] for entry in listed]
    assert "NOTEBOOK_ARGS" not in kernel.connect(behind).run_cell("import os; print(*os.environ)")
    words = behind.exec("sh", "-c", "cat /proc/[0-9]*/cmdline").stdout
    assert kernel.connect(behind).token not in words
    assert ARGUMENT not in words.replace(f"NOTEBOOK_ARGS={ARGUMENT}", "")


def test_a_kernel_starts_without_a_warning(behind: Box) -> None:
    kernel.connect(behind).run_cell("print(1)")
    lines = [line for line in behind.logs().splitlines() if line.startswith("jupyter |")]
    assert not [line for line in lines if re.search("warn|TCP|ping_timeout", line, re.IGNORECASE)]


def test_a_made_certificate_stays_over_a_restart(box: Boxes) -> None:
    started = box(env={"ENABLE_HTTPS": "true"})
    before = shown_certificate(started)
    started.restart()
    assert poll(lambda: started.logs().count(" Ready ") == 2, timeout=60)
    assert shown_certificate(started) == before
    assert "its certificate is self-signed" in started.logs()


def test_a_mounted_pair_is_shown_and_a_wrong_one_named(box: Boxes, tmp_path: Path) -> None:
    for name in ("mine", "other"):
        make_pair(tmp_path / name)
    mounted = ("-v", f"{tmp_path}:/tls:ro")
    pair = {"LAUNCHER_TLS_CERT": "/tls/mine.crt", "LAUNCHER_TLS_KEY": "/tls/mine.key"}
    started = box(*mounted, env=pair)
    chain = (tmp_path / "mine.crt").read_text()
    assert shown_certificate(started) == ssl.PEM_cert_to_DER_cert(chain)
    assert kernel.connect(started).run_cell("print(2)") == "2\n"
    assert started.exec("stat", "-c", "%U %a", "/run/launcher/jupyter.pem").stdout == "dev 600\n"

    mixed = box(*mounted, env={**pair, "LAUNCHER_TLS_KEY": "/tls/other.key"})
    assert mixed.wait() == 78
    assert "LAUNCHER_TLS_KEY='/tls/other.key': expected a certificate" in mixed.logs()


def shown_certificate(box: Box) -> bytes:
    """Return the certificate that Jupyter shows, DER."""
    box.wait_for_banner()
    pem = ssl.get_server_certificate(("127.0.0.1", box.port(8888)))
    return ssl.PEM_cert_to_DER_cert(pem)


def make_pair(path: Path) -> None:
    """Make PATH.crt and PATH.key, as a person would."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=box",
         "-keyout", f"{path}.key", "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip


# --- dying, restarting -----------------------------------------------------------------------

# It holds the interpreter's lock in C, so ipykernel's own watch for its parent never runs.
STUCK = """
import os, subprocess
subprocess.Popen(["sleep", "86421"], start_new_session=True)
print("kernel", os.getpid(), flush=True)
import ctypes
ctypes.PyDLL(None).sleep(86400)
"""


@pytest.fixture(scope="module")
def plain(shared_box: Boxes) -> Box:
    return shared_box()


def test_kernels_of_a_jupyter_that_died_end_before_the_next(plain: Box) -> None:
    """What holds GPU memory goes; what was started in a terminal is not Jupyter's to end."""
    server = kernel.connect(plain)
    with server.terminal() as terminal:
        terminal.run("setsid sleep 86422 & sleep 0.2")
        with kernel.Kernel(server, new_kernel(server)) as stuck:
            stuck.run_until("kernel", STUCK)
        assert programs(plain) >= {"ipykernel_launcher", "sleep 86421", "sleep 86422"}
        first = jupyter_pid(plain)
        plain.exec("kill", "-9", str(first))
        assert poll(lambda: jupyter_pid(plain) not in (0, first), timeout=20, interval=0.2)
        assert not programs(plain) & {"ipykernel_launcher", "sleep 86421"}
        assert "sleep 86422" in programs(plain)
        assert poll(server.answers, timeout=20, interval=0.2)
    assert server.run_cell("print('again')") == "again\n"


def test_restart_jupyter_leaves_ssh_alone(plain: Box) -> None:
    plain.wait_for_banner()
    server = kernel.connect(plain)
    old = jupyter_pid(plain)
    with login(plain).paramiko() as client:
        stdin, stdout, _ = client.exec_command("read line; echo got $line", timeout=60)
        refused = plain.exec("launcher", "restart", "jupyter", user="dev", check=False)
        assert refused.returncode == 78
        assert "try: sudo launcher restart jupyter" in refused.stderr
        assert jupyter_pid(plain) == old
        done = plain.exec("sudo", "launcher", "restart", "jupyter", user="dev")
        assert done.stdout == "launcher: jupyter is restarted\n"
        assert poll(server.answers, timeout=20, interval=0.2)
        assert jupyter_pid(plain) != old
        stdin.write("me\n")
        assert stdout.read() == b"got me\n"
    assert plain.exec("launcher", "restart", "nginx", check=False).returncode == 78


def test_terminals_are_login_shells_of_the_user(plain: Box) -> None:
    said = doors.jupyter_terminal(plain, "shopt login_shell; id -un; echo $0")
    assert said.split() == ["login_shell", "on", "dev", "/bin/bash"]


def new_kernel(server: kernel.Server) -> str:
    return str(server.request("/api/kernels", method="POST", body={}).json()["id"])


def jupyter_pid(box: Box) -> int:
    """Return the pid of Jupyter, 0 where there is none."""
    found = box.exec("pgrep", "-f", "guest/jupyter.py", check=False).stdout.split()
    return int(found[0]) if found else 0


def programs(box: Box) -> set[str]:
    """Return those of the programs of interest that run."""
    words = box.exec("ps", "-eo", "args").stdout
    wanted = ("ipykernel_launcher", "sleep 86421", "sleep 86422")
    return {program for program in wanted if program in words}


# --- off, idle, wrong ------------------------------------------------------------------------


def test_without_jupyter_there_is_ssh_alone(box: Boxes) -> None:
    started = box(env={"JUPYTER_DISABLE": "1"})
    banner = started.wait_for_banner()
    assert re.search(r"Jupyter +off: JUPYTER_DISABLE is set", banner)
    assert " Ready " in banner
    assert "http" not in banner
    assert login(started).is_let_in()
    assert started.exec("launcher", "healthcheck", check=False).returncode == 0
    assert started.exec("launcher", "url", check=False).returncode == 78
    assert jupyter_pid(started) == 0


def test_an_idle_kernel_ends_where_that_is_asked_for(box: Boxes) -> None:
    started = box(env={"LAUNCHER_JUPYTER_CULL_IDLE": "8s"})
    server = kernel.connect(started)
    with kernel.Kernel(server, new_kernel(server)) as idle:  # an open tab does not keep it
        idle.run("1")
        assert poll(lambda: server.request("/api/kernels").json() == [], timeout=60, interval=0.5)


def test_arguments_that_cannot_be_used_are_named_and_not_shown(box: Boxes) -> None:
    for words, said in (
        ("--sock=/s3cret", "NOTEBOOK_ARGS --sock: this option has another place here: set JUPYTER"),
        ("--port=1234 --port=s3cret", "NOTEBOOK_ARGS --port=*** and NOTEBOOK_ARGS --port"),
        ("'s3cret", "NOTEBOOK_ARGS=***: expected options of Jupyter"),
    ):
        wrong = box(env={"NOTEBOOK_ARGS": words})
        assert wrong.wait() == 78
        assert said in wrong.logs()
        assert "s3cret" not in wrong.logs()
