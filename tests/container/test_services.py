"""The main job: `docker run`, `docker logs`, open the URL, run the SSH line."""

from __future__ import annotations

import re
import socket
from datetime import datetime, timezone
from pathlib import Path

import pytest

from sim import description, driver
from testing.container import doors, kernel
from testing.container.box import BANNER, PYTORCH_CHECKED, Box, Boxes
from testing.container.engine import poll
from testing.container.login import AS_OPENSSH_CHOOSES, PASSWORD, Login, printed_command

# What a user passes, with everything in it that some format on the way would mangle.
TWO_LINES = "first\nsecond"
AWKWARD = """50% of 'this' and "that" \\ $HOME ; a=b #c é€"""


@pytest.fixture(scope="module")
def started(shared_box: Boxes) -> Box:
    """The documented command, on ports that are free here."""
    return shared_box(
        *PYTORCH_CHECKED, "--gpus", "all", env={"AWKWARD": AWKWARD, "TWO_LINES": TWO_LINES}
    )


@pytest.fixture(scope="module")
def server(started: Box) -> kernel.Server:
    return kernel.connect(started)


# --- the log --------------------------------------------------------------------------------


def test_first_line_at_once_then_the_banner(started: Box) -> None:
    """What was found is said while the services still start; until then, that we ask."""
    started.wait_for_banner()
    lines = started.docker("logs", "--timestamps", started.name).stdout.splitlines()
    found, banner = (
        next(index for index, line in enumerate(lines) if words in line)
        for words in ("launcher: 8 × NVIDIA H100 80GB HBM3, driver 565.57.01", " Ready ")
    )
    assert found == 0 or (found == 1 and "launcher: still asking the NVIDIA driver" in lines[0])
    first, last = (_seconds_after_start(started, lines[index]) for index in (0, banner))
    print(f"first line after {first:.2f} s, banner after {last:.2f} s")
    assert first < 5.0  # how much earlier is measured by bench/
    assert first < last - 0.3, "it did not wait for the services"


def test_log_has_one_url_and_one_token(started: Box, server: kernel.Server) -> None:
    """Jupyter's own start-up lines would bury the banner's."""
    log = started.logs()
    assert log.count(server.token) == 1
    assert re.findall(r"https?://\S+", log) == [kernel.printed_url(log)]


def test_banner_is_readable(started: Box) -> None:
    banner = started.wait_for_banner()
    too_wide = [line for line in banner.splitlines() if len(line) > 80 and "token=" not in line]
    assert too_wide == []
    assert "\x1b" not in banner, "docker logs is no terminal"
    for gpu in description.gpus(driver.find("h100-8x").read_text()):
        assert re.search(
            rf"^ +{gpu.index}  {gpu.get('name')}.*{gpu.get('pci_bus_id')}", banner, re.M
        )
    assert "driver 565.57.01, CUDA up to 12.7" in banner
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in banner


def test_pytorch_is_verified_after_the_banner(started: Box) -> None:
    """The simulated driver computes nothing, and the line says so."""
    verdict = started.wait_for_log(r"launcher: PyTorch (\S+): (.*)", timeout=120)
    assert verdict[1] == "2.6.0+cu124"
    assert verdict[2].startswith("CUDA works on 0 of 8 devices: ")
    banner = BANNER.search(started.logs())
    assert banner
    assert banner.end() <= verdict.start()


def test_banner_and_url_are_printed_again(started: Box, server: kernel.Server) -> None:
    banner = started.wait_for_banner()
    assert started.exec("launcher", "banner").stdout == banner
    url = started.exec("launcher", "url").stdout.strip()
    assert url == kernel.printed_url(banner)


# --- Jupyter --------------------------------------------------------------------------------


def test_url_opens_jupyterlab(server: kernel.Server) -> None:
    page = kernel.open_page(f"{server.url}/lab?token={server.token}")
    assert page.status == 200
    assert "<title>JupyterLab</title>" in page.text


def test_only_the_token_opens_jupyter(server: kernel.Server) -> None:
    assert server.request("/api").status == 200
    assert server.request("/api/contents").status == 200
    assert server.request("/api/contents", token="").status == 403
    assert server.request("/api/contents", token="wrong").status == 403
    assert server.request("/api/kernels", method="POST", body={}, token="").status == 403


def test_kernel_sees_the_gpus(server: kernel.Server) -> None:
    printed = server.run_cell(
        "import os, torch\n"
        "print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['CUDA_DEVICE_ORDER'])\n"
        "print(torch.__version__)\n"
    )
    assert printed.split() == ["0,1,2,3,4,5,6,7", "PCI_BUS_ID", "2.6.0+cu124"]


def test_kernel_runs_as_the_workspace_user_there(server: kernel.Server) -> None:
    code = "import os, getpass; print(os.getuid(), getpass.getuser(), os.getcwd())"
    assert server.run_cell(code).split() == ["1000", "dev", "/workspace"]


# --- the environment, behind every door -----------------------------------------------------


@pytest.mark.parametrize("door", doors.DOORS)
def test_environment_is_the_same_behind_every_door(started: Box, door: str) -> None:
    """What was planned, what the user passed byte by byte, and the user's programs first."""
    env = doors.environment(started, doors.DOORS[door])
    assert env["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["AWKWARD"] == AWKWARD
    assert env["TWO_LINES"] == TWO_LINES
    assert env["PATH"].split(":")[:2] == ["/opt/launcher/command", "/opt/venv/bin"]
    assert "JUPYTER_TOKEN" not in env


@pytest.mark.parametrize("door", doors.DOORS)
def test_who_you_are_behind_every_door(started: Box, door: str) -> None:
    """`docker exec` is root's unless it is told otherwise, and `sudo`; the others are dev's."""
    env = doors.environment(started, doors.DOORS[door])
    root = door.startswith("docker_exec") or door == "sudo_login"
    assert env["HOME"] == ("/root" if root else "/home/dev")
    assert doors.DOORS[door](started, "id -un").split()[-1] == ("root" if root else "dev")


# --- as printed -----------------------------------------------------------------------------


@pytest.mark.alone  # it needs 8888 and 2222 of this machine
def test_url_and_ssh_line_work_exactly_as_printed(box: Boxes) -> None:
    """Type the README's command, and copy the two lines."""
    for port in (8888, 2222):
        if not _is_free(port):
            pytest.skip(f"port {port} of this machine is taken")
    started = box("--gpus", "all", "-p", "8888:8888", "-p", "2222:22")
    banner = started.wait_for_banner()
    assert kernel.open_page(kernel.printed_url(banner)).status == 200
    assert kernel.Server(kernel.printed_url(banner)).run_cell("print(6 * 7)") == "42\n"
    ssh, *words = printed_command(banner)
    password = PASSWORD.search(banner)
    assert password
    access = Login(2222, password=password[1])
    done = access.run([ssh, *AS_OPENSSH_CHOOSES, *words, "id -un"])
    assert (done.returncode, done.stdout) == (0, "dev\n"), done.stderr


# --- not ready ------------------------------------------------------------------------------

HELD_JUPYTER = """
import os, time
print("waiting for the tape robot", flush=True)
while not os.path.exists("/tmp/tape"):
    time.sleep(0.05)
"""
SILENT_SSHD = """#!/bin/sh
echo "the key cabinet is locked"
exec sleep 600
"""


def why_not_healthy(box: Box) -> str:
    return box.exec("launcher", "healthcheck", check=False).stdout or "ssh"


def test_banner_waits_for_jupyter(box: Boxes, tmp_path: Path) -> None:
    """No banner while only SSH answers."""
    held = box(*_jupyter_config(tmp_path, HELD_JUPYTER))
    held.wait_for_log("waiting for the tape robot")
    assert poll(lambda: "ssh" not in why_not_healthy(held), timeout=30)  # the handshake
    assert BANNER.search(held.logs()) is None
    held.exec("touch", "/tmp/tape")
    assert " Ready " in held.wait_for_banner()
    assert kernel.connect(held).answers()


def test_not_ready_says_what_is_and_what_is_not(box: Boxes, tmp_path: Path) -> None:
    held = box(*_jupyter_config(tmp_path, HELD_JUPYTER), env={"LAUNCHER_READY_TIMEOUT": "5"})
    banner = held.wait_for_banner()
    assert "NOT READY: jupyter " in banner
    assert "jupyter is not ready: no answer on port 8888: Connection refused" in banner
    assert "   | waiting for the tape robot" in banner
    assert "ssh is not ready" not in banner
    assert held.exec("launcher", "healthcheck", check=False).returncode == 1
    held.exec("touch", "/tmp/tape")
    held.wait_for_log("launcher: jupyter is ready again")
    assert kernel.connect(held).answers()
    assert poll(
        lambda: not held.exec("launcher", "healthcheck", check=False).returncode, timeout=10
    )


def test_not_ready_ssh(box: Boxes, tmp_path: Path) -> None:
    program = tmp_path / "sshd"
    program.write_text(SILENT_SSHD)
    program.chmod(0o755)
    deaf = box("-v", f"{program}:/usr/sbin/sshd:ro", env={"LAUNCHER_READY_TIMEOUT": "6"})
    banner = deaf.wait_for_banner()
    assert "NOT READY: ssh " in banner
    assert "ssh is not ready: no handshake on port 22: Connection refused" in banner
    assert "   | the key cabinet is locked" in banner
    assert "jupyter is not ready" not in banner
    assert kernel.connect(deaf).run_cell("print('works')") == "works\n"


def _jupyter_config(folder: Path, text: str) -> tuple[str, str]:
    """Return the options that mount `text` as the system's Jupyter configuration."""
    path = folder / "jupyter_server_config.py"
    path.write_text(text)
    return "-v", f"{path}:/etc/jupyter/jupyter_server_config.py:ro"


def _seconds_after_start(box: Box, line: str) -> float:
    """Return when a line of `docker logs --timestamps` was written, from the container's start."""
    return (_moment(line.split()[0]) - _moment(box.state()["StartedAt"])).total_seconds()


def _moment(text: str) -> datetime:
    """Read an RFC 3339 time; Docker's nanoseconds are more than datetime takes."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    moment = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc)
    return moment.replace(microsecond=int(f"{fraction:0<6}"[:6]))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
