"""Hooks in the image: when they run, as whom, and what of theirs is behind every door."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest

from testing.container import doors
from testing.container.box import BANNER, SSH_ALONE, Box, Boxes
from testing.container.engine import poll
from testing.container.login import KeyPair, login, make_key
from tests.container.test_unread_log import SMALL_LOG, attached, is_stuck, stop

OURS = "/etc/launcher/hooks.d"
START = "/usr/local/bin/start-notebook.d"
BEFORE = "/usr/local/bin/before-notebook.d"
BEGIN = "#!/bin/bash\n"

NASTY = {
    "T_QUOTES": "'\"'\"\\\"\\\\' $HOME `id` %h ;#",
    "T_LINES": "\none\n\n'two'\n",
    "T_64K": "x'\"$\\ " * 11_000,
}


class Hooks:
    """Files to be mounted into a container, each at its path."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, path: str, text: str, mode: int = 0o755) -> None:
        file = self._folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    @property
    def mounts(self) -> list[str]:
        folders = [path for path in (OURS, START, BEFORE) if self._at(path).is_dir()]
        files = [f"/{path.name}" for path in self._folder.glob("*.sh")]
        return [part for at in folders + files for part in ("-v", f"{self._at(at)}:{at}:ro")]

    def _at(self, path: str) -> Path:
        return self._folder / path.lstrip("/")


@pytest.fixture
def hooks(tmp_path: Path) -> Hooks:
    return Hooks(tmp_path / "hooks")


# --- one box with every kind of hook ----------------------------------------------------------

SOURCED = (
    "\n".join(f"export {name}={shlex.quote(value)}" for name, value in NASTY.items())
    + """
unset T_UNSET
export T_CHANGED=by-a-hook CUDA_VISIBLE_DEVICES=2 NB_USER=ada JUPYTER_TOKEN=made-by-a-hook
export PATH=/opt/mine/bin:$PATH
"""
)
GIVEN = {"T_UNSET": "1", "T_CHANGED": "by-docker", "JUPYTER_TOKEN": "by-docker"}
SAY = f"{BEGIN}echo ran $0 as $(id -un) in $PWD with $(readlink /proc/self/fd/0) T=$T_CHANGED"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return make_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def hooked(shared_box: Boxes, tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Box:
    hooks = Hooks(tmp_path_factory.mktemp("hooks"))
    hooks.put(f"{OURS}/10-say", SAY)
    asked = "echo exec: $(id -un) $CUDA_DEVICE_ORDER"
    hooks.put(f"{OURS}/20-ask", f"{BEGIN}launcher exec -- sh -c '{asked}'")
    hooks.put(f"{OURS}/30-daemon", f"{BEGIN}setsid sleep 1234 &\n")
    hooks.put(f"{OURS}/40-key", f"{BEGIN}echo {key.public} > /etc/launcher/authorized_keys.d/x")
    hooks.put(f"{OURS}/README", "how to add a hook", mode=0o644)
    hooks.put(f"{START}/50.sh", SOURCED, mode=0o644)
    hooks.put(f"{BEFORE}/60-say", SAY)
    hooks.put("/pre_start.sh", SAY, mode=0o644)
    hooks.put("/post_start.sh", 'echo "$T_CHANGED:$T_QUOTES" | tee /tmp/post_start', mode=0o644)
    box = shared_box("--gpus", "all", *hooks.mounts, env=GIVEN)
    box.wait_for_banner()
    return box


def test_they_run_in_order_before_anything_starts(hooked: Box) -> None:
    """As root, in /, without an input; each is named, and what it says stands below."""
    log = hooked.logs()
    began = BANNER.search(log)
    assert began
    before = log[: began.start()].splitlines()
    running = [line.split()[-1] for line in before if line.startswith("launcher: running")]
    assert running == [
        f"{OURS}/10-say", f"{OURS}/20-ask", f"{OURS}/30-daemon", f"{OURS}/40-key",
        f"{START}/50.sh", f"{BEFORE}/60-say", "/pre_start.sh",
    ]  # fmt: skip
    for path, changed in ((f"{OURS}/10-say", "by-docker"), (f"{BEFORE}/60-say", "by-a-hook"),
                          ("/pre_start.sh", "by-a-hook")):  # fmt: skip
        said = f"ran {path} as root in / with /dev/null T={changed}"
        assert before[before.index(f"launcher: running {path}") + 1] == said


def test_a_hook_can_ask_the_launcher(hooked: Box) -> None:
    assert "exec: dev PCI_BUS_ID\n" in hooked.logs()


def test_what_is_not_executable_is_named(hooked: Box) -> None:
    (line,) = [line for line in hooked.logs().splitlines() if "README" in line]
    assert f"chmod +x {OURS}/README" in line


def test_a_daemon_lives_on(hooked: Box) -> None:
    assert hooked.exec("pgrep", "-fx", "sleep 1234", check=False).stdout


@pytest.mark.parametrize(
    "door", ["notebook", "jupyter_terminal", "launcher_exec", "docker_exec_interactive", "ssh"]
)
def test_what_hooks_exported_is_behind_every_door(hooked: Box, key: KeyPair, door: str) -> None:
    """The last with a key that a hook installed, as the user that another one named."""

    def ssh(box: Box, command: str) -> str:
        return login(box, key, user="ada").ssh(command).stdout

    found = doors.environment(hooked, {**doors.DOORS, "ssh": ssh}[door])
    wanted = {**NASTY, "T_CHANGED": "by-a-hook", "CUDA_VISIBLE_DEVICES": "2"}
    assert {name for name, value in wanted.items() if found.get(name) != value} == set()
    assert found["PATH"].startswith("/opt/mine/bin:/opt/launcher/command:/opt/venv/bin:")
    if door != "docker_exec_interactive":  # Docker itself gives that one the container's
        assert "T_UNSET" not in found
        assert found["USER"] == "ada"


def test_the_banner_is_of_what_the_hooks_made(hooked: Box) -> None:
    banner = hooked.wait_for_banner()
    assert "token=made-by-a-hook" in banner
    assert "CUDA_VISIBLE_DEVICES=2" in banner
    assert "ssh -p 2222 ada@" in banner


def test_a_reload_keeps_it(hooked: Box) -> None:
    hooked.kill("HUP")
    hooked.wait_for_log("launcher: keys and configuration reloaded")
    shown = hooked.exec("launcher", "exec", "--", "printenv", "T_CHANGED", "USER").stdout
    assert shown == "by-a-hook\nada\n"


def test_post_start_has_the_environment_of_the_hooks(hooked: Box) -> None:
    said = hooked.exec("/usr/local/bin/launcher", "post-start").stdout
    assert said == f"by-a-hook:{NASTY['T_QUOTES']}\n"


# --- failures ---------------------------------------------------------------------------------


def test_a_failing_hook_ends_the_start(box: Boxes, hooks: Hooks) -> None:
    hooks.put(f"{OURS}/10-bad", f"{BEGIN}echo because; exit 3")
    hooks.put(f"{OURS}/20-never", f"{BEGIN}echo never")
    started = box(*hooks.mounts)
    assert started.wait() == 70
    log = started.logs()
    assert f"launcher: {OURS}/10-bad failed: exit status 3; so nothing is started." in log
    assert log.index("because") < log.index("failed: exit status 3")
    assert "never" not in log
    assert "jupyter |" not in log
    assert "sshd |" not in log


def test_with_warn_it_is_named_and_the_start_goes_on(box: Boxes, hooks: Hooks) -> None:
    hooks.put(f"{OURS}/10-bad", f"{BEGIN}kill -9 $$")
    hooks.put(f"{OURS}/20-next", f"{BEGIN}sleep 2; echo next")
    begin = time.monotonic()
    started = box(*hooks.mounts, "-e", "LAUNCHER_HOOKS=warn")
    banner = started.wait_for_banner()
    took = re.search(r"Ready +after ([\d.]+) s", banner)
    assert took
    assert float(took[1]) <= time.monotonic() - begin - 2, "the services' time begins after hooks"
    lines = started.logs().splitlines()
    (failed,) = [n for n, line in enumerate(lines) if "10-bad failed: killed by SIGKILL" in line]
    assert "next" in lines[failed:]


def test_safe_mode_runs_none_and_says_which(box: Boxes, hooks: Hooks) -> None:
    for path in (f"{OURS}/10-bad", f"{BEFORE}/20-bad", "/pre_start.sh", "/post_start.sh"):
        hooks.put(path, f"{BEGIN}echo $0 ran; exit 3")
    started = box(*SSH_ALONE, *hooks.mounts, "-e", "LAUNCHER_SAFE_MODE=1")
    started.wait_for_banner()
    named = f"safe mode: these hooks are not run: {OURS}/10-bad, {BEFORE}/20-bad, /pre_start.sh\n"
    assert named in started.logs()
    assert started.exec("launcher", "post-start", check=False).returncode == 78
    assert " ran\n" not in started.logs()


# --- how a start ends while one runs ----------------------------------------------------------


def test_stop_ends_a_hook_at_once(box: Boxes, hooks: Hooks) -> None:
    """One that does not want to end, either."""
    hooks.put(f"{OURS}/10-deaf", f"{BEGIN}trap '' TERM INT HUP; echo deaf; sleep 300; sleep 300")
    started = box(*hooks.mounts)
    started.wait_for_log(r"(?m)^deaf$")
    assert started.stop() < 5
    assert started.exit_code() == 0


def test_a_hook_that_floods_a_log_nobody_reads_can_be_stopped(box: Boxes, hooks: Hooks) -> None:
    hooks.put(f"{OURS}/10-flood", f"{BEGIN}until [ -e /run/flood ]; do sleep 0.1; done; exec yes")
    started = box(*hooks.mounts, *SMALL_LOG)
    with attached(started):
        started.exec("touch", "/run/flood")
        assert poll(lambda: is_stuck(started), timeout=30)
        stopping = stop(started)
    assert stopping.wait(30) == 0
    assert started.exit_code() == 0


# --- docker run IMAGE CMD ---------------------------------------------------------------------


def test_a_command_has_what_they_exported_and_a_clean_output(box: Boxes, hooks: Hooks) -> None:
    hooks.put(f"{OURS}/10-say", f"{BEGIN}echo a hook was here\nlauncher exec -- id -un")
    hooks.put(f"{START}/20.sh", SOURCED)
    hooks.put("/pre_start.sh", f"{BEGIN}echo not for commands")
    shown = '"$T_CHANGED" "$T_QUOTES" "$CUDA_VISIBLE_DEVICES" "${T_UNSET-}" $(id -un)'
    options = ["--gpus", "all", *hooks.mounts]
    done = box.run("sh", "-c", f"printf '%s|' {shown}", options=options, env=GIVEN)
    assert done.stdout.decode() == f"by-a-hook|{NASTY['T_QUOTES']}|2||ada|"
    said = done.stderr.decode()
    assert f"launcher: running {OURS}/10-say\na hook was here\ndev\n" in said
    assert "not for commands" not in said
    assert done.returncode == 0


def test_a_command_does_not_start_after_a_failure(box: Boxes, hooks: Hooks) -> None:
    hooks.put(f"{BEFORE}/10.sh", "return 7")
    done = box.run("echo", "started", options=hooks.mounts)
    assert (done.returncode, done.stdout) == (70, b"")
    assert f"launcher: {BEFORE}/10.sh failed: exit status 7" in done.stderr.decode()
