"""The whole box on this machine: real supervisor, real JupyterLab, real sshd, simulated GPUs.

The tests that only look share one box; those that stop, break or configure it start their own.
"""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher import health
from launcher.hostkey import fingerprint
from tests.local_box import Box, running_box, wait_until

pytestmark = pytest.mark.skipif(
    not Path("/usr/sbin/sshd").exists(), reason="OpenSSH's server is not installed"
)

# What users put into variables, and what shells, sshd and supervisor each make of it.
NASTY = {
    "PERCENT": "100% %(ENV_HOME)s %h",
    "QUOTES": 'it\'s "quoted" \\ and \\n',
    "SEMICOLON": "a ;b # c",
    "DOLLAR": "$HOME `id` $(id)",
    "BYTES": "\udcff×",
    "SEVERAL": "one\ntwo",
    "EMPTY": "",
}


@pytest.fixture(scope="module")
def box(private_dir: Path, simulated) -> Iterator[Box]:
    """Return a running box with two GPUs, for tests that only look.  Its path is no easy one."""
    env = {**simulated("rtx3090-2x-nvlink"), **NASTY}
    with running_box(private_dir / "a box's place", **env) as running:
        yield running


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


# --- what is printed -------------------------------------------------------------------------


def test_the_first_line_says_what_was_found(box: Box) -> None:
    first = next(line for _, line in box.lines if "still asking" not in line)
    assert "2 × NVIDIA GeForce RTX 3090" in first
    assert box.log.index(first) < box.log.index("═")


def test_the_banner_lists_the_gpus_and_what_was_set(box: Box) -> None:
    banner = box.wait_for_banner()
    assert banner.count("NVIDIA GeForce RTX 3090") == 2
    assert "CUDA_VISIBLE_DEVICES=0,1" in banner
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in banner


def test_pytorchs_verdict_follows(box: Box) -> None:
    box.wait_for(r"═\nlauncher: PyTorch .+$")


def test_nothing_else_looks_like_a_way_in_or_like_trouble(box: Box) -> None:
    assert box.log.count(box.token) == 1
    assert len(re.findall(r"https?://", box.log)) == 1
    assert not re.search(r"WARN|ERROR|CRIT|Traceback|Exception", box.log)


# --- Jupyter ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status"),
    [("/lab", 200), ("/api/contents", 200), ("/api/status", 200), ("/api/terminals", 200)],
)
def test_jupyter_opens_with_the_token(box: Box, path: str, status: int) -> None:
    assert box.get(path, token=box.token) == status


@pytest.mark.parametrize("token", [None, "", "wrong"])
@pytest.mark.parametrize("path", ["/api/contents", "/api/kernels", "/api/terminals"])
def test_jupyter_stays_shut_without_the_token(box: Box, path: str, token: str | None) -> None:
    assert box.get(path, token=token) == 403


def test_the_url_opens_as_printed(box: Box) -> None:
    path = box.url.partition(f":{box.jupyter_port}")[2]
    assert box.get(path) == 200


@pytest.fixture(scope="module")
def kernel(box: Box) -> str:
    return box.start_kernel()


def doors(box: Box, kernel: str) -> dict[str, dict[str, str]]:
    """Return the environment behind each way in."""
    in_kernel = box.run_in_kernel(kernel, "import os; print(ascii(dict(os.environ)))")
    terminal = box.run_in_terminal("env -0 | od -An -v -tx1 | tr -d ' \\n'; echo")
    return {
        "kernel": eval(in_kernel),
        "terminal": environment_of(bytes.fromhex(terminal.strip())),
        "ssh": environment_of(box.ssh("env -0").stdout),
        "exec": environment_of(os.fsencode(box.launcher("exec", "--", "env", "-0").stdout)),
    }


def environment_of(output: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in os.fsdecode(output).split("\0") if entry)
    return {name: value for name, _, value in pairs}


@pytest.fixture(scope="module")
def environments(box: Box, kernel: str) -> dict[str, dict[str, str]]:
    return doors(box, kernel)


every_door = pytest.mark.parametrize("door", ["kernel", "terminal", "ssh", "exec"])


@every_door
def test_the_planned_devices_are_seen_behind_every_door(environments, door: str) -> None:
    seen = environments[door]
    assert seen["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert seen["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@every_door
def test_the_containers_variables_arrive_byte_by_byte(environments, door: str) -> None:
    # sshd cannot carry a line break; in the image, bash makes up for it (tests/container).
    expected = {name: value for name, value in NASTY.items() if door != "ssh" or "\n" not in value}
    assert {name: environments[door].get(name) for name in expected} == expected


@every_door
def test_no_door_shows_the_token(environments, door: str, box: Box) -> None:
    assert not [name for name, value in environments[door].items() if box.token in value]


def test_no_signal_is_blocked_or_ignored_behind_any_door(box: Box, kernel: str) -> None:
    command = "grep -E 'SigBlk|SigIgn' /proc/self/status"
    seen = {
        "kernel": box.run_in_kernel(kernel, f"import subprocess as s; print(s.run({command!r}, "
                                    "shell=True, capture_output=True, text=True).stdout)"),
        "terminal": box.run_in_terminal(command),
        "ssh": box.ssh(command).stdout.decode(),
    }  # fmt: skip
    masks = {door: [int(mask, 16) for mask in re.findall(r"Sig\w+:\s+(\w+)", text)]
             for door, text in seen.items()}  # fmt: skip
    assert masks == {"kernel": [0, 0], "terminal": [0, 0], "ssh": [0, 0]}


def test_the_kernel_itself_ignores_nothing_that_python_does_not(box: Box, kernel: str) -> None:
    # ipykernel ignores SIGINT between cells, Python SIGPIPE and SIGXFSZ; nothing is blocked.
    masks = box.run_in_kernel(kernel, "print(open('/proc/self/status').read())")
    blocked, ignored = (int(mask, 16) for mask in re.findall(r"Sig(?:Blk|Ign):\s+(\w+)", masks))
    allowed = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT}
    assert blocked == 0
    assert not ignored & ~sum(1 << (number - 1) for number in allowed)


def test_the_workspace_is_where_notebooks_open(box: Box, kernel: str) -> None:
    assert box.run_in_kernel(kernel, "import os; print(os.getcwd())").strip() == str(
        box.directory / "ws"
    )


# --- SSH -------------------------------------------------------------------------------------


def test_the_printed_line_logs_in(box: Box) -> None:
    done = box.ssh("id -un")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().strip() == box.env["NB_USER"]


def test_the_printed_fingerprint_is_the_servers(box: Box) -> None:
    scan = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", "-p", str(box.ssh_port), "127.0.0.1"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert fingerprint(scan.stdout.split(maxsplit=1)[1]) in box.wait_for_banner()


def test_a_password_does_not_log_in(box: Box) -> None:
    done = subprocess.run(
        ["ssh", "-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-v",
         "-oUserKnownHostsFile=/dev/null", "-oPreferredAuthentications=none",
         "-p", str(box.ssh_port), f"{box.env['NB_USER']}@127.0.0.1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    (offered,) = re.findall(r"Authentications that can continue: (\S+)", done.stderr)
    assert offered == "publickey"


# --- the command line beside it --------------------------------------------------------------


def test_healthcheck_is_0(box: Box) -> None:
    done = box.launcher("healthcheck")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_banner_and_the_url_can_be_printed_again(box: Box) -> None:
    assert box.launcher("banner").stdout == box.wait_for_banner() + "\n"
    assert box.launcher("url").stdout == box.url + "\n"


@pytest.mark.parametrize("stage", ["plan", "detect"])
def test_a_stage_prints_no_secret(box: Box, stage: str) -> None:
    done = box.launcher(stage)
    assert done.returncode == 0, done.stderr
    assert box.token not in done.stdout
    assert "GPU-" in done.stdout or "CUDA_VISIBLE_DEVICES" in done.stdout


# --- who sees what ---------------------------------------------------------------------------


def test_no_secret_is_on_any_command_line(box: Box, kernel: str) -> None:
    secrets = {(box.directory / "state" / name).read_text() for name in ("token", "password")}
    assert box.token in secrets
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue  # it has ended
        assert not [secret for secret in secrets if secret in words]


def test_no_file_with_a_secret_can_be_read_by_others(box: Box) -> None:
    holders = {
        path.relative_to(box.directory)
        for path in box.directory.rglob("*")
        if path.is_file() and box.token in path.read_text(errors="replace")
    }
    assert {"token", "plan.json", "jupyter.json", "banner"} <= {path.name for path in holders}
    for path in holders:
        # The file itself, or a folder above it, is shut.
        above = [box.directory / path, *(box.directory / parent for parent in path.parents[:-1])]
        assert any(stat.S_IMODE(place.stat().st_mode) & 0o077 == 0 for place in above), path


def test_only_jupyter_and_ssh_can_be_reached(box: Box) -> None:
    own = {int(pid) for pid in box.processes() if "ipykernel" not in command_of(int(pid))}
    assert listening_ports(own) == {box.jupyter_port, box.ssh_port}


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def listening_ports(pids: set[int]) -> set[int]:
    """Return the TCP ports that these processes listen on, from the kernel's tables."""
    inodes = set()
    for pid in pids:
        for fd in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                inodes.add(os.readlink(fd))
            except OSError:
                continue
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


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
    (supervise,) = children_of(box.process.pid)
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


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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
        return health.check(f"{box.directory}/run") is None

    wait_until(healthy, "the box is healthy", timeout=60)
