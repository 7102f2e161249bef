"""The last steps before exec: user, groups, directory, environment, signals."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.model import codec
from launcher.model.errors import BadSetting
from launcher.model.plan import Service
from launcher.process import become
from testing.scripts import run_script, signal_masks

BECOME = """
import sys
from launcher.model import codec
from launcher.process import become
from launcher.model.plan import Service
become.become(codec.from_json(Service, sys.argv[1]))
"""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def service(*argv: str, **changes) -> Service:
    given = {"uid": -1, "gid": -1, "groups": (), "cwd": "/", "env": (("PATH", "/usr/bin:/bin"),)}
    return Service(name="test", argv=argv, **{**given, **changes})


def output_of(wanted: Service, before: str = "", **options) -> str:
    done = run_script(before + BECOME, codec.to_json(wanted), **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_is_the_planned_one_and_nothing_else() -> None:
    env = (("A", "two\nlines"), ("B", "100% 'sure'"), ("PATH", "/usr/bin:/bin"))
    entries = output_of(service("env", "-0", env=env)).split("\0")
    assert sorted(filter(None, entries)) == sorted(f"{name}={value}" for name, value in env)


def test_the_directory_and_the_umask_are_the_planned_ones(tmp_path: Path) -> None:
    wanted = service("sh", "-c", "pwd; umask", cwd=str(tmp_path), umask=0o027)
    assert output_of(wanted).split() == [str(tmp_path), "0027"]


def test_a_directory_that_is_not_there_is_no_reason_to_fail() -> None:
    assert output_of(service("true", cwd="/nonexistent")) == ""


def test_who_has_no_directory_is_at_home(tmp_path: Path) -> None:
    env = (("HOME", str(tmp_path)), ("PATH", "/usr/bin:/bin"))
    assert output_of(service("pwd", cwd="/nonexistent", env=env)) == f"{tmp_path}\n"
    gone = tmp_path / "gone"
    gone.mkdir()
    held = os.open(gone, os.O_RDONLY)
    gone.rmdir()  # it can still be entered, as a mount whose source is gone
    entered = service("pwd", cwd=f"/proc/{os.getpid()}/fd/{held}", env=env)
    try:
        assert output_of(entered) == f"{tmp_path}\n"
    finally:
        os.close(held)


def test_no_signal_stays_blocked_or_ignored() -> None:
    before = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGRTMIN):
    signal.signal(number, signal.SIG_IGN)
"""
    seen = output_of(service("grep", "-E", "SigBlk|SigIgn", "/proc/self/status"), before)
    assert signal_masks(seen) == [0, 0]


@only_root
def test_root_becomes_the_user_with_their_groups_and_nothing_else() -> None:
    seen = output_of(
        service("sh", "-c", "id -u; id -g; id -G", uid=65534, gid=65533, groups=(1, 2))
    )
    assert seen.split() == ["65534", "65533", "65533", "1", "2"]


@only_root
def test_the_user_may_reopen_the_outputs() -> None:
    # As `tee /dev/stderr` does: the pipe is root's until it is handed over.
    assert output_of(service("sh", "-c", "echo hi > /dev/stdout", uid=65534, gid=65534)) == "hi\n"


@only_root
def test_what_is_no_pipe_and_no_terminal_keeps_its_owner(tmp_path: Path) -> None:
    # Standard input is often /dev/null, which would change hands for the whole machine.
    (tmp_path / "input").touch()
    before = os.stat(tmp_path / "input")
    with (tmp_path / "input").open("rb") as stdin:
        output_of(service("true", uid=65534, gid=65534), stdin=stdin)
    after = os.stat(tmp_path / "input")
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


@only_root
def test_a_user_cannot_come_back() -> None:
    wanted = service("python3", "-Ic", "import os; os.setuid(0)", uid=65534, gid=65534)
    done = run_script(BECOME, codec.to_json(wanted))
    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("more", [0, 950])
def test_a_service_is_killed_before_what_restarts_it(more: int) -> None:
    """Where memory runs out; 1000 is the most (proc_pid_oom_score_adj(5))."""
    score = "/proc/self/oom_score_adj"
    before = int(Path(score).read_text()) + more
    if before > 1000:
        pytest.skip("this machine's processes are all killed first")
    raised = f"open({score!r}, 'w').write('{before}')\n"
    assert output_of(service("cat", score), before=raised) == f"{min(1000, before + 100)}\n"


def test_what_is_planned_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    wanted = service("true", env=(("A", "1"),))
    (tmp_path / "services" / "test.json").write_text(codec.to_json(wanted))
    assert become.load_service(str(tmp_path), "test") == wanted


def test_what_is_not_planned_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"cannot start jupyter: .*services/jupyter\.json"):
        become.load_service(str(tmp_path), "jupyter")


def test_roots_path_has_nothing_of_the_users(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/workspace/bin:/bin")
    assert "/workspace" not in become.launcher_path()
    assert "/usr/sbin" in become.launcher_path().split(":")
