"""The table of commands as people meet it: help, slips of the hand, completion."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import __version__
from launcher.cli.table import COMMANDS
from launcher.doctor import pages
from launcher.model import command_names
from launcher.settings.environ import wants_color
from testing.local_box import LAUNCHER

NOWHERE = "/nonexistent/launcher-run"


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCHER, *arguments],
        env={"PATH": os.environ["PATH"], "LAUNCHER_RUN_DIR": NOWHERE, **(env or {})},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )


# --- help, and slips of the hand ---------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_takes(name: str) -> None:
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: launcher {name} ")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert run("help", name).stdout == done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_does_not_exist_is_refused(name: str) -> None:
    done = run(name, "--no-such-option")
    assert done.returncode == (2 if name != "exec" else 78)
    assert done.stdout == ""
    assert "usage:" in done.stderr or name == "exec"


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(("doctr",), "doctor"), (("status", "--jsn"), "--json"), (("restrat", "x"), "restart")],
)
def test_the_nearest_name_is_said(arguments: tuple[str, ...], meant: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert f"did you mean: {meant}?" in done.stderr


@pytest.mark.parametrize("arguments", [("start", "--help"), ("start", "tensorboard")])
def test_start_with_a_word_starts_no_second_box(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, env={"LAUNCHER_RUN_DIR": str(tmp_path / "run")})
    assert "starting the services" not in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


def test_a_container_s_command_may_be_one_of_ours() -> None:
    assert set(command_names.NAMES) == set(COMMANDS)
    box = [sys.executable, "-I", str(Path(__file__).parents[3] / "entrypoint.py"), "doctor"]
    done = subprocess.run(box, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 127
    assert "'doctor': not found; did you mean: launcher doctor?" in done.stderr


# --- version -----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_version(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).stdout.splitlines()[0] == f"launcher {__version__}"


def test_the_version_of_the_user_s_pytorch_is_read_and_not_imported(tmp_path: Path) -> None:
    torch = tmp_path / "lib/python3.11/site-packages/torch"
    torch.mkdir(parents=True)
    (torch / "__init__.py").write_text("raise SystemExit('imported')")
    (torch / "version.py").write_text(
        "from typing import Optional\n__version__ = '2.6.0+cu124'\ncuda: Optional[str] = '12.4'\n"
        "hip: Optional[str] = None\n"
    )
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    env = {"LAUNCHER_PYTHON": str(tmp_path / "bin/python")}
    assert json.loads(run("version", "--json", env=env).stdout) == {
        "launcher": __version__, "python": "3.11.7", "pytorch": "2.6.0+cu124", "cuda": "12.4",
    }  # fmt: skip
    without = json.loads(run("version", "--json", env={"LAUNCHER_PYTHON": "/x/bin/python"}).stdout)
    assert without["pytorch"] is without["cuda"] is None


# --- explain -----------------------------------------------------------------------------------


def test_every_finding_is_explained() -> None:
    ids = run("explain", "--list").stdout.split()
    assert len(ids) > 100
    for id in ids:
        text = pages.explain(id)
        assert text.startswith(f"{id}\n")
        assert "Fix: " in text
        assert max(map(len, text.splitlines())) <= 80 or "://" in text


def test_a_line_of_the_log_is_explained() -> None:
    said = run(
        "explain", "launcher: jupyter ended after 3 s (exit status 1); it is started again at once"
    )
    assert "a program ended by itself" in said.stdout
    same = run("explain", "keys and configuration reloaded")
    assert "after HUP" in same.stdout


def test_what_no_page_has_is_said_with_what_is_near() -> None:
    done = run("explain", "driver.hang")
    assert done.returncode == 78
    assert "driver.hung" in done.stderr


# --- logs --------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "jupyter.log").write_text("".join(f"line {n}\n" for n in range(100)))
    (folder / "sshd.log").write_text("Server \x1b[2J listening\n")
    return folder


def test_the_last_lines_of_a_program(log: Path) -> None:
    env = {"LAUNCHER_RUN_DIR": str(log.parent)}
    assert run("logs", "jupyter", "-n", "2", env=env).stdout == "line 98\nline 99\n"
    assert run("logs", "ssh", env=env).stdout == "Server ?[2J listening\n"
    both = run("logs", "-n", "1", env=env).stdout
    assert both == "jupyter | line 99\nsshd | Server ?[2J listening\n"
    done = run("logs", "tensorboard", env=env)
    assert (done.returncode, "jupyter, ssh" in done.stderr) == (78, True)


def test_a_log_is_followed_over_its_rotation(log: Path) -> None:
    command = [*LAUNCHER, "logs", "jupyter", "-n", "1", "-f"]
    env = {"PATH": os.environ["PATH"], "LAUNCHER_RUN_DIR": str(log.parent)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        try:
            assert following.stdout.readline() == "line 99\n"
            with (log / "jupyter.log").open("a") as stream:
                stream.write("more\n")
            assert following.stdout.readline() == "more\n"
            (log / "jupyter.log").rename(log / "jupyter.log.1")
            (log / "jupyter.log").write_text("after\n")
            assert following.stdout.readline() == "after\n"
        finally:
            following.kill()


# --- completion, in a real bash ----------------------------------------------------------------


def complete(typed: str, folder: Path) -> str:
    """Return what a terminal shows once TAB is pressed twice after `typed`."""
    (folder / "launcher").write_text(f'#!/bin/sh\nexec {" ".join(LAUNCHER)} "$@"\n')
    (folder / "launcher").chmod(0o755)
    (folder / "rc").write_text(
        "PS1='> '\nbind 'set bell-style none'\nsource <(launcher completion bash)\n"
    )
    env = {"PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb", "HOME": str(folder)}
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("bash", ["bash", "--rcfile", str(folder / "rc"), "-i"], env)
    try:
        shown = _read_until(terminal, "> ")
        os.write(terminal, f"{typed}\t\t".encode())
        shown = _read_until(terminal, None)
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return shown


def _read_until(terminal: int, mark: str | None) -> str:
    """Read until `mark` ends what is shown, or until nothing more comes for a second."""
    shown, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        ready = select.select([terminal], [], [], 1.0 if mark is None and shown else 5.0)[0]
        if not ready:
            break
        shown += os.read(terminal, 4096)
        if mark and shown.endswith(mark.encode()):
            break
    return shown.decode(errors="replace")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("launcher heal", "launcher healthcheck "),
        ("launcher restart jup", "launcher restart jupyter "),
        ("launcher status --j", "launcher status --json "),
        ("launcher explain driver.hu", "launcher explain driver.hung "),
        ("launcher keys re", "launcher keys remove "),
    ],
)
def test_bash_completes(typed: str, shown: str, tmp_path: Path) -> None:
    assert shown in complete(typed, tmp_path)


# --- colour ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "terminal", "painted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True, True),
    ],
)
def test_who_decides_about_colour(environ: dict[str, str], terminal: bool, painted: bool) -> None:
    assert wants_color(environ, terminal) is painted
