"""The whole box on this machine: real supervisor, real JupyterLab, real sshd, simulated GPUs.

These only look, and share one box; tests/box/test_life.py starts, breaks and stops others.
"""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.model.public_key import fingerprint
from testing.local_box import Box, running_box
from testing.scripts import signal_masks

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

TOKEN = "a-token-that-is-given"


@pytest.fixture(scope="module")
def box(private_dir: Path, simulated) -> Iterator[Box]:
    """Return a running box with two GPUs, for tests that only look.  Its path is no easy one."""
    env = {**simulated("rtx3090-2x-nvlink"), **NASTY, "JUPYTER_TOKEN": TOKEN}
    with running_box(private_dir / "a box's place", **env) as running:
        yield running


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
    masks = {door: signal_masks(text) for door, text in seen.items()}
    assert masks == {"kernel": [0, 0], "terminal": [0, 0], "ssh": [0, 0]}


def test_the_kernel_itself_ignores_nothing_that_python_does_not(box: Box, kernel: str) -> None:
    # ipykernel ignores SIGINT between cells, Python SIGPIPE and SIGXFSZ; nothing is blocked.
    masks = box.run_in_kernel(kernel, "print(open('/proc/self/status').read())")
    blocked, ignored = signal_masks(masks)
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
    again = box.launcher("banner").stdout.splitlines()
    # Its second host key is made once it is out.
    assert [line for line in again if "RSA host key" not in line] == [
        line for line in box.wait_for_banner().splitlines() if "RSA host key" not in line
    ]
    assert box.launcher("url").stdout == box.url + "\n"


@pytest.mark.parametrize("stage", ["plan", "detect"])
def test_a_stage_prints_no_secret(box: Box, stage: str) -> None:
    done = box.launcher(stage)
    assert done.returncode == 0, done.stderr
    assert box.token not in done.stdout
    assert "GPU-" in done.stdout or "CUDA_VISIBLE_DEVICES" in done.stdout


# --- who sees what ---------------------------------------------------------------------------


def test_no_secret_is_on_any_command_line(box: Box, kernel: str) -> None:
    kept = ("token", "password")
    secrets = {TOKEN, *((box.directory / "state" / name).read_text() for name in kept)}
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
    assert {"plan.json", "jupyter.json", "banner"} <= {path.name for path in holders}
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
