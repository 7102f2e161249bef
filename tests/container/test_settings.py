"""Settings that cannot be used, and surroundings that lack something.

Each gives a clear message and exit 78 with nothing started, or a box that is up and says what it
lacks.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.container import kernel
from testing.container.banner import unwrapped
from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.login import login, make_key

BAD_SETTING = 78


def _refused(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what a start that was refused said, after checking that it started nothing."""
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == BAD_SETTING, said
    assert "Traceback" not in said
    assert "Server listening" not in said
    assert " | " not in said, "no program of the box has spoken"
    return said


# --- ports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"JUPYTER_PORT": "eight"}, "JUPYTER_PORT='eight': expected a port number from 1 to 65535"),
        ({"JUPYTER_PORT": "70000"}, "JUPYTER_PORT='70000': expected a port number from 1 to 65535"),
        ({"JUPYTER_PORT": "0"}, "JUPYTER_PORT='0': expected a port number from 1 to 65535"),
        ({"SSH_PORT": "-1"}, "SSH_PORT='-1': expected a port number from 1 to 65535"),
        ({"SSH_PORT": "22.5"}, "SSH_PORT='22.5': expected a port number from 1 to 65535"),
        ({"SSH_PORT": "8888"}, "JUPYTER_PORT and SSH_PORT are both 8888: choose two ports"),
    ],
)
def test_port_that_is_none(box: Boxes, env: dict[str, str], says: str) -> None:
    assert says in _refused(box.run(env=env))


def test_every_problem_at_once(box: Boxes) -> None:
    env = {"JUPYTER_PORT": "x", "SSH_PORT": "y", "LAUNCHER_QUIET": "maybe"}
    said = _refused(box.run(env=env))
    assert all(f"launcher: {name}=" in said for name in env)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port of this machine that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("name", ["JUPYTER_PORT", "SSH_PORT"])
def test_port_in_use_on_the_host_network(box: Boxes, taken_port: int, name: str) -> None:
    """Another one would be one that nobody knows of."""
    free = {"JUPYTER_PORT": str(_free_port()), "SSH_PORT": str(_free_port())}
    done = box.run(options=("--network", "host"), env={**free, name: str(taken_port)})
    assert f"{name}={taken_port}: this port is already in use here" in _refused(done)


def test_free_ports_on_the_host_network(box: Boxes) -> None:
    """There the URL and the SSH line are right as printed."""
    ports = {"JUPYTER_PORT": str(_free_port()), "SSH_PORT": str(_free_port())}
    banner = box("--network", "host", env=ports).wait_for_banner()
    assert f"ssh -p {ports['SSH_PORT']} dev@127.0.0.1" in banner
    assert "reached with -p" not in banner
    assert f"http://127.0.0.1:{ports['JUPYTER_PORT']}/lab?token=" in banner
    assert kernel.open_page(kernel.printed_url(banner)).status == 200


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# --- the token ------------------------------------------------------------------------------


def test_empty_token_is_not_taken(box: Boxes) -> None:
    """It would open Jupyter to everyone, and is rarely meant."""
    started = box("-e", "JUPYTER_TOKEN=")
    server = kernel.connect(started)
    assert len(server.token) >= 43
    assert "launcher: JUPYTER_TOKEN is empty" in started.logs()
    assert server.request("/api/contents", token="").status == 403


def test_any_printable_token_works_end_to_end(box: Boxes) -> None:
    """From the variable to the URL in the banner, and through it."""
    token = """it's "quoted" $HOME 100% %(x)s \\ `id` ;#&?=/+ %41 schlüssel-鍵"""
    started = box("-e", f"JUPYTER_TOKEN= {token}")
    server = kernel.connect(started)
    assert " Ready " in started.wait_for_banner()
    assert server.token == token
    page = kernel.open_page(server.page_url)
    assert page.status == 200
    assert "<title>JupyterLab</title>" in page.text


def test_token_of_two_lines(box: Boxes) -> None:
    said = _refused(box.run(env={"JUPYTER_TOKEN": "first\nsecond"}))
    assert "JUPYTER_TOKEN=***: expected up to 4096 printable characters" in said
    assert "second" not in said, "it may be a secret all the same"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret-of-a-file\n")
    return path


def test_token_file_with_a_trailing_newline(box: Boxes, token_file: Path) -> None:
    """As every editor and `kubectl create secret --from-file` write it."""
    started = box(*_mounted(token_file), "-e", "JUPYTER_TOKEN_FILE=/run/secrets/token")
    server = kernel.connect(started)
    assert server.token == "secret-of-a-file"
    assert server.request("/api/contents").status == 200


def test_token_file_that_is_not_there(box: Boxes) -> None:
    said = _refused(box.run(env={"JUPYTER_TOKEN_FILE": "/run/secrets/token"}))
    assert "JUPYTER_TOKEN_FILE='/run/secrets/token': cannot read it: No such file or" in said


def test_token_file_that_is_a_directory(box: Boxes, tmp_path: Path) -> None:
    """What `-v` makes of a mistyped path."""
    done = box.run(options=_mounted(tmp_path), env={"JUPYTER_TOKEN_FILE": "/run/secrets/token"})
    assert "JUPYTER_TOKEN_FILE='/run/secrets/token': cannot read it: it is a folder" in _refused(
        done
    )


def test_token_file_that_may_not_be_read(box: Boxes, token_file: Path) -> None:
    token_file.chmod(0o600)
    done = box.run(
        options=(*_mounted(token_file), "--user", "dev"),
        env={"JUPYTER_TOKEN_FILE": "/run/secrets/token"},
    )
    assert "cannot read it: Permission denied" in _refused(done)


def test_token_file_that_is_empty(box: Boxes, token_file: Path) -> None:
    token_file.write_text("\n")
    done = box.run(options=_mounted(token_file), env={"JUPYTER_TOKEN_FILE": "/run/secrets/token"})
    assert "expected a token in the file, which is empty" in _refused(done)


def _mounted(path: Path) -> tuple[str, str]:
    return "-v", f"{path}:/run/secrets/token:ro"


# --- names ----------------------------------------------------------------------------------


def test_mistyped_setting_is_pointed_out(box: Boxes) -> None:
    started = box(*SSH_ALONE, "-e", "LAUNCHER_READY_TIMEOT=5", "-e", "LAUNCHER_FROBNICATE=1")
    started.wait_for_banner()
    said = started.logs()
    assert (
        "launcher: LAUNCHER_READY_TIMEOT is not a setting and has no effect; "
        "did you mean LAUNCHER_READY_TIMEOUT?\n"
    ) in said
    assert "launcher: LAUNCHER_FROBNICATE is not a setting and has no effect" in said


def test_settings_are_listed(box: Boxes) -> None:
    """With what each is here, and no secret."""
    started = box(*SSH_ALONE, "-e", "JUPYTER_TOKEN=my-own-secret", "-e", "SSH_PORT_HOST=2200")
    listed = started.exec("launcher", "settings").stdout
    assert "SSH_PORT_HOST = '2200' (from SSH_PORT_HOST)" in listed
    assert "JUPYTER_TOKEN = *** (from JUPYTER_TOKEN)" in listed
    assert "my-own-secret" not in listed


# --- what may not be written -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "what"),
    [("ro", "/workspace is mounted read-only"), ("rw", "dev (uid 1000) cannot write /workspace")],
)
def test_workspace_that_cannot_be_written(box: Boxes, tmp_path: Path, mode: str, what: str) -> None:
    """Mounted read-only, or its own owner's not to write: the box is up, and says so."""
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o777 if mode == "ro" else 0o555)
    os.chown(folder, 1000, 1000)
    started = box("-v", f"{folder}:/workspace:{mode}")
    said = unwrapped(started.wait_for_banner())
    assert f"! {what}: notebooks cannot be saved there" in said
    server = kernel.connect(started)
    assert server.run_cell("import os; print(os.getcwd())") == "/workspace\n"
    body = {"type": "file"}
    assert server.request("/api/contents", method="POST", body=body).status in (403, 500)


def test_workspace_that_can_be_written(box: Boxes, tmp_path: Path) -> None:
    """Its note must be able to be absent."""
    folder = tmp_path / "work"
    folder.mkdir()
    folder.chmod(0o777)
    started = box("-v", f"{folder}:/workspace")
    assert "cannot write" not in started.wait_for_banner()
    server = kernel.connect(started)
    assert server.request("/api/contents", method="POST", body={"type": "notebook"}).status == 201
    assert len(list(folder.glob("*.ipynb"))) == 1


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (("--read-only",), "/tmp"),
        (("--read-only", "--tmpfs", "/tmp"), "/run"),
        (("--read-only", "--tmpfs", "/run"), "/tmp"),
        (("-v", "/usr/share:/var/lib/launcher:ro"), "/var/lib/launcher"),
    ],
    ids=["nothing", "no-run", "no-tmp", "state"],
)
def test_what_must_be_writable_is_named(box: Boxes, options: tuple[str, ...], missing: str) -> None:
    said = _refused(box.run(options=options))
    assert f"launcher: cannot write {missing}: " in said
    assert "docker run --tmpfs /run --tmpfs /tmp:exec -v launcher-state:/var/lib/launcher" in said


def test_read_only_root_with_what_it_needs(box: Boxes, tmp_path: Path) -> None:
    """Everything but the password, which would have to be written to /etc/shadow."""
    key = make_key(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    work.chmod(0o777)
    started = box(
        *("--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp", "-v", f"{work}:/workspace"),
        env={"PUBLIC_KEY": key.public},
    )
    banner = started.wait_for_banner()
    assert " Ready " in banner
    assert "Traceback" not in started.logs()
    assert "   1 public key may log in" in banner
    assert login(started, key).ssh("touch /workspace/by-ssh && id -un").stdout == "dev\n"
    code = "open('/workspace/by-kernel', 'w').close(); import torch; print(torch.ones(2).sum())"
    assert kernel.connect(started).run_cell(code) == "tensor(2.)\n"
    assert sorted(path.name for path in work.iterdir() if path.name.startswith("by-")) == [
        "by-kernel",
        "by-ssh",
    ]


def test_read_only_root_has_no_password(box: Boxes) -> None:
    started = box(*SSH_ALONE, "--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp")
    said = unwrapped(started.wait_for_banner())
    assert " Ready " in said
    assert "nobody can log in: no key, and no password (cannot set one: " in said
    assert "Traceback" not in started.logs()


# --- limits ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(shared_box: Boxes) -> Box:
    return shared_box(*SSH_ALONE, "--cpus", "1.5", "--memory", "2g", "--pids-limit", "500")


def test_limits_are_shown(limited: Box) -> None:
    """The container's, where the machine has more."""
    said = unwrapped(limited.wait_for_banner())
    assert re.search(r"Limits +1\.5 of \d+ CPUs, 2\.0 GiB memory, 64 MiB /dev/shm, 500 proc", said)


def test_small_shared_memory_is_a_warning(limited: Box) -> None:
    said = unwrapped(limited.wait_for_banner())
    assert "! /dev/shm is 64 MiB: DataLoader workers and NCCL run out of shared memory" in said
    assert "fix: docker run --shm-size=8g" in said


def test_enough_shared_memory_is_none(box: Boxes) -> None:
    banner = box(*SSH_ALONE, "--shm-size=2g").wait_for_banner()
    assert "2.0 GiB /dev/shm" in banner
    assert "! /dev/shm" not in banner
