"""The life of a box on this machine: start, reload, stop, restart, and everything that goes wrong.

Each test starts boxes of its own; those that only look at one are in tests/box/test_services.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.watch import health
from testing.local_box import Box, wait_until

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/sshd").exists(), reason="OpenSSH's server is not installed"
)


@pytest.fixture
def make_box(private_dir: Path) -> Iterator[Callable[..., Box]]:
    """Return a way to make boxes that are not started yet; they are ended with the test."""
    made: list[Box] = []

    def make(**env: str) -> Box:
        made.append(Box(Path(tempfile.mkdtemp(dir=private_dir)), env))
        return made[-1]

    yield make
    for box in made:
        if hasattr(box, "process"):
            box.kill()


# --- a life: keys, HUP, stop, restart --------------------------------------------------------


def new_key(path: Path) -> str:
    """Make a key pair; return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_suffix(".pub").read_text()


def test_a_life(make_box, simulated, tmp_path: Path) -> None:
    box: Box = make_box(**simulated("rtx4090-1x"))
    keys = box.directory / "keys"
    keys.mkdir()
    (keys / "alice").write_text(new_key(tmp_path / "alice") + "garbage\n")
    bob = new_key(tmp_path / "bob")

    box.start()
    box.wait_for("RTX 4090")
    for _ in range(3):  # configuration may change before everything is up
        box.process.send_signal(signal.SIGHUP)
    banner = box.wait_for_banner()
    assert "alice line 2" in banner
    assert "1 public key may log in" in banner
    assert box.ssh("true", key=tmp_path / "alice").returncode == 0
    assert box.ssh("true", key=tmp_path / "bob").returncode != 0

    # HUP adds a key, and ends neither a kernel nor a login.
    kernel = box.start_kernel()
    box.run_in_kernel(kernel, "answer = 42")
    login = subprocess.Popen(
        ["ssh", "-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oLogLevel=ERROR",
         f'-oUserKnownHostsFile="{tmp_path}/known_hosts"', "-i", tmp_path / "alice",
         "-p", str(box.ssh_port), f"{box.env['NB_USER']}@127.0.0.1", "cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    (keys / "bob").write_text(bob)
    reloads = box.log.count("reloaded")
    box.process.send_signal(signal.SIGHUP)
    wait_until(lambda: box.log.count("reloaded") > reloads, "the reload")
    box.wait_for(r"^sshd \| Received SIGHUP; restarting")
    wait_until(lambda: box.ssh("true", key=tmp_path / "bob").returncode == 0, "bob logs in")
    assert box.run_in_kernel(kernel, "print(answer)") == "42\n"
    assert login.communicate(b"still here", timeout=30)[0] == b"still here"

    # Stop ends everything in order, what a kernel left in a session of its own included.
    box.run_in_kernel(
        kernel,
        "import subprocess; subprocess.Popen(['sleep', '1000'], start_new_session=True)",
    )
    token, url = box.token, box.url
    stop(box)

    # What is bookmarked still works, and the host is still the one that clients know.
    box.start()
    assert fingerprint_in(box.wait_for_banner()) == fingerprint_in(banner)
    assert (box.token, box.url) == (token, url)
    assert box.get("/api/contents", token=token) == 200

    # Supervise is required: without it the container must end, and not look alive.
    supervise = supervise_of(box)
    os.kill(supervise, signal.SIGKILL)
    assert box.wait() == 70
    assert "supervise ended by itself: killed by SIGKILL" in box.log
    assert box.processes() == []


def stop(box: Box) -> None:
    """Stop a box, which ends in order, in time, and leaves nothing behind."""
    code, seconds = box.stop()
    assert code == 0, box.log
    assert "did not stop in time" not in box.log
    assert seconds < 10  # what Docker gives it
    assert box.processes() == []


def fingerprint_in(banner: str) -> str:
    return re.findall(r"SHA256:\S+", banner)[0]


def supervise_of(box: Box) -> int:
    """Return PID 1's only child, once the one that makes the second host key has ended."""
    pid = box.process.pid
    path = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(lambda: len(path.read_text().split()) == 1, "PID 1 has one child")
    return int(path.read_text())


# --- what goes wrong -------------------------------------------------------------------------


def test_a_service_that_cannot_start_ends_the_box_with_its_last_lines(make_box, tmp_path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'this is why it does not start' >&2\nexit 3\n")
    python.chmod(0o755)
    box = make_box(LAUNCHER_PYTHON=str(python))
    box.start()
    assert box.wait(60) == 70
    assert "jupyter failed for good" in box.log
    last_words = box.log.partition("failed for good")[2]
    assert "this is why it does not start" in last_words
    assert " Ready" not in box.log
    assert box.processes() == []


def test_a_service_that_is_not_ready_is_named_in_the_banner(make_box, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'waiting for Godot' >&2\nexec sleep 1000\n")
    python.chmod(0o755)
    box = make_box(LAUNCHER_PYTHON=str(python), LAUNCHER_READY_TIMEOUT="2")
    box.start()
    box.wait_for(r"^ NOT READY: jupyter\b")
    box.wait_for(r"^ +\| .*waiting for Godot$")
    assert box.ssh("true").returncode == 0
    health = box.launcher("healthcheck")
    assert health.returncode == 1
    assert "jupyter" in health.stdout
    stop(box)


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        ({"JUPYTER_PORT": "banana"}, 78, "JUPYTER_PORT='banana'"),
        ({"SSH_PORT": "70000"}, 78, "SSH_PORT='70000'"),
        ({"JUPYTER_PORT": "9999", "SSH_PORT": "9999"}, 78, "both 9999"),
        ({"JUPYTER_PORT": "BUSY"}, 78, "already in use"),
        ({"LAUNCHER_GPUS": "banana"}, 78, "LAUNCHER_GPUS='banana'"),
        ({"LAUNCHER_GPUS": "0,5"}, 78, "5 matches 0 GPUs"),
        ({"JUPYTER_TOKEN_FILE": "/nonexistent"}, 78, "JUPYTER_TOKEN_FILE"),
        ({"JUPYTER_TOKEN": "two\nlines"}, 78, "JUPYTER_TOKEN=***"),
        ({"LAUNCHER_STATE_DIR": "/dev/null/state"}, 78, "cannot write /dev/null/state"),
        ({"LAUNCHER_RUN_DIR": "/dev/null/run"}, 78, "cannot write /dev/null"),
        ({"LAUNCHER_REQUIRE_GPU": "3"}, 69, "LAUNCHER_REQUIRE_GPU=3"),
    ],
)
def test_a_start_that_cannot_be_ends_with_its_reason(make_box, simulated, env, code, said) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        busy = str(server.getsockname()[1])
        env = {name: busy if value == "BUSY" else value for name, value in env.items()}
        box = make_box(**simulated("rtx3090-2x-nvlink"), **env)
        box.start()
        assert box.wait() == code
    assert said in box.log
    assert "Traceback" not in box.log
    assert " Ready" not in box.log
    assert not (box.directory / "run" / "plan.json").exists()
    assert box.processes() == []


def test_a_hung_driver_delays_nobody_longer_than_it_is_given(make_box, simulated) -> None:
    token = "a'b\"c$d%e &f?#/+=é"
    box = make_box(
        **simulated("hung-init"), LAUNCHER_DETECT_TIMEOUT="2", JUPYTER_TOKEN=token,
        PUBLIC_KEY="\udcff not a key",
    )  # fmt: skip
    box.start()
    box.wait_for("still asking the NVIDIA driver")
    assert box.lines[0][0] < 1
    assert "still asking" in box.lines[0][1]
    banner = box.wait_for_banner()
    assert "does not answer: no answer within 2 s" in " ".join(banner.split())
    appeared = next(when for when, line in box.lines if " Ready" in line)
    assert appeared > 2
    supervise_of(box)  # who hangs is not waited for, and is gone
    # And any token is data: the printed URL opens.
    assert box.token == token
    assert box.get(box.url.partition(f":{box.jupyter_port}")[2]) == 200
    assert box.get("/api/contents", token="a") == 403
    stop(box)


def test_a_driver_that_crashes_is_named(make_box, simulated) -> None:
    box = make_box(**simulated("crash-init"), LAUNCHER_REQUIRE_GPU="1")
    box.start()
    assert box.wait() == 69
    assert "crashed: killed by SIGSEGV" in box.log


# --- a launcher that is killed ----------------------------------------------------------------


def named(mark: str) -> list[int]:
    """Return the processes with this text on their command line or in their environment."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal() and any(
                mark.encode() in (path / file).read_bytes() for file in ("cmdline", "environ")
            ):
                found.append(int(path.name))
    return [pid for pid in found if pid != os.getpid()]


def test_a_launcher_that_is_killed_leaves_nothing_running(make_box) -> None:
    """In a container the kernel sees to that."""
    box = make_box(BOX_MARK=f"mark-{uuid.uuid4()}")
    box.start()
    box.wait_for_banner()
    assert named(box.env["BOX_MARK"])
    box.process.kill()
    wait_until(lambda: not named(box.env["BOX_MARK"]), lambda: str(named(box.env["BOX_MARK"])))
    box.wait()


def test_nor_a_command(make_box) -> None:
    box = make_box()
    box.start(command=("sleep", mark := "3600.25"))
    wait_until(lambda: len(named(mark)) == 2, lambda: str(named(mark)))
    box.process.kill()
    wait_until(lambda: not named(mark), lambda: str(named(mark)))
    box.wait()


# --- a log that nobody reads -----------------------------------------------------------------


def test_a_full_pipe_stops_nothing(make_box) -> None:
    box = make_box()
    reader, writer = os.pipe()
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    os.write(writer, b"x" * size)
    box.start(stdout=writer)
    os.close(writer)
    await_health(box)
    stop(box)
    os.close(reader)


def test_a_reader_that_goes_away_stops_nothing(make_box) -> None:
    box = make_box()
    reader, writer = os.pipe()
    box.start(stdout=writer)
    os.close(writer)
    os.close(reader)
    await_health(box)
    stop(box)


def await_health(box: Box) -> None:
    def healthy() -> bool:
        assert box.process.poll() is None
        return health.check_health(f"{box.directory}/run") is None

    wait_until(healthy, "the box is healthy", timeout=60)
