"""Hooks: which are found, in which order they run, and what is left of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.box import files
from launcher.pid1 import hooks
from launcher.pid1.hooks import Changes, Hook
from launcher.supervise import post_start
from testing.scripts import run_script, signal_masks
from tests.unit.render.test_quoting import NASTY

BEGIN = "#!/bin/sh\n"
ENVIRON = {"PATH": "/usr/bin:/bin", "KEPT": "as it was", "a.dotted.name": "1"}


def put(root: Path, path: str, text: str = "", mode: int = 0o755) -> str:
    """Write a file below `root`; return its path."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def found(root: Path, for_a_command: bool = False) -> list[tuple[str, str]]:
    """Return every hook below `root` and how it is run."""
    seen = hooks.find(for_a_command, str(root)).hooks
    return [(os.path.relpath(hook.path, root), hook.how) for hook in seen]


class Run:
    """Hooks that have run in a child of their own, as PID 1's, with what came of it."""

    def __init__(self, seen: list[Hook], environ: Mapping[str, str], options: str) -> None:
        wanted = [(hook.path, hook.how) for hook in seen]
        done = run_script(f"""
import json, sys
from launcher.model import codec
from launcher.pid1 import hooks
from launcher.model.errors import StartFailed
seen = [hooks.Hook(*hook) for hook in {wanted!r}]
try:
    changes = hooks.run_hooks(seen, {dict(environ)!r}, 2, {options})
    print(codec.to_json(changes))
except StartFailed as err:
    print(json.dumps(str(err)))
""")
        self.log = done.stderr
        self.answer = json.loads(done.stdout.splitlines()[-1])

    @property
    def changes(self) -> Changes:
        assert isinstance(self.answer, dict), self.answer
        return Changes(self.answer["values"], tuple(self.answer["removed"]))

    @property
    def failure(self) -> str:
        assert isinstance(self.answer, str), self.answer
        return self.answer


def run(
    *seen: Hook, environ: Mapping[str, str] = ENVIRON, go_on: bool = False, quiet: bool = False
) -> Run:
    return Run(list(seen), environ, f"go_on={go_on}, quiet={quiet}")


def sourced(tmp_path: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> Changes:
    """Return what a sourced hook changes."""
    return run(Hook(put(tmp_path, "it's a $HOOK.sh", text), "source"), environ=environ).changes


# --- which there are ---------------------------------------------------------------------------


def test_without_hooks_there_are_none(tmp_path: Path) -> None:
    assert hooks.find(False, str(tmp_path)) == hooks.Found((), ())
    put(tmp_path, "etc/launcher/hooks.d", "a file where the folder should be")
    assert found(tmp_path) == []


def test_the_order_is_that_of_the_sources_then_of_the_names(tmp_path: Path) -> None:
    names = ["usr/local/bin/before-notebook.d/1", "pre_start.sh", "etc/launcher/hooks.d/b",
             "etc/launcher/hooks.d/B", "etc/launcher/hooks.d/10-z", "etc/launcher/hooks.d/9-a",
             "etc/launcher/hooks.d/é", "usr/local/bin/start-notebook.d/2.sh"]  # fmt: skip
    for name in names:
        put(tmp_path, name)
    assert found(tmp_path) == [
        ("etc/launcher/hooks.d/10-z", "run"),
        ("etc/launcher/hooks.d/9-a", "run"),
        ("etc/launcher/hooks.d/B", "run"),
        ("etc/launcher/hooks.d/b", "run"),
        ("etc/launcher/hooks.d/é", "run"),
        ("usr/local/bin/start-notebook.d/2.sh", "source"),
        ("usr/local/bin/before-notebook.d/1", "run"),
        ("pre_start.sh", "bash"),
    ]


def test_a_command_has_no_hooks_of_runpod(tmp_path: Path) -> None:
    for name in ("etc/launcher/hooks.d/a", "usr/local/bin/before-notebook.d/b.sh", "pre_start.sh"):
        put(tmp_path, name)
    commands = [name for name, _ in found(tmp_path, for_a_command=True)]
    assert commands == ["etc/launcher/hooks.d/a", "usr/local/bin/before-notebook.d/b.sh"]


def test_hidden_files_backups_and_folders_are_no_hooks(tmp_path: Path) -> None:
    """A ConfigMap's folder holds `..data`, which the files in it link to."""
    folder = "etc/launcher/hooks.d"
    put(tmp_path, f"{folder}/..2026_01_01/10-real", BEGIN)
    (tmp_path / folder / "..data").symlink_to("..2026_01_01")
    (tmp_path / folder / "10-real").symlink_to("..data/10-real")
    put(tmp_path, f"{folder}/10-real~")
    put(tmp_path, f"{folder}/folder/inside")
    assert found(tmp_path) == [(f"{folder}/10-real", "run")]
    assert hooks.find(False, str(tmp_path)).remarks == ()


def test_what_is_not_executable_is_named_with_its_fix(tmp_path: Path) -> None:
    plain = put(tmp_path, "etc/launcher/hooks.d/a file", BEGIN, mode=0o644)
    lost = tmp_path / "etc/launcher/hooks.d/lost"
    lost.symlink_to("nowhere")
    sh = put(tmp_path, "usr/local/bin/start-notebook.d/x.sh", mode=0o644)
    seen = hooks.find(False, str(tmp_path))
    assert seen.hooks == (Hook(sh, "source"),), "it is read, not executed"
    first, second = seen.remarks
    assert f"chmod +x '{plain}'" in first
    assert "defaultMode: 0755" in first
    assert str(lost) in second
    assert "link to nothing" in second


def test_a_name_cannot_write_a_line_of_the_log(tmp_path: Path) -> None:
    put(tmp_path, "etc/launcher/hooks.d/a\nlauncher: all is well", mode=0o644)
    (remark,) = hooks.find(False, str(tmp_path)).remarks
    assert "\n" not in remark
    (hook,) = [Hook(put(tmp_path, "x\nlauncher: y", BEGIN + "exit 1"), "run")]
    assert "\nlauncher: y" not in run(hook, go_on=True).log
    assert [line for line in hooks.safe_mode_lines([hook]) if "\n" in line] == []


def test_safe_mode_names_what_it_leaves_out(tmp_path: Path) -> None:
    assert hooks.safe_mode_lines([]) == ()
    seen = [Hook("/etc/launcher/hooks.d/a", "run"), Hook("/pre_start.sh", "bash")]
    (line,) = hooks.safe_mode_lines(seen)
    assert "/etc/launcher/hooks.d/a, /pre_start.sh" in line


# --- how they run ------------------------------------------------------------------------------


def test_a_hook_has_the_container_s_environment_and_nothing_of_ours(tmp_path: Path) -> None:
    script = (
        "pwd; readlink /proc/self/fd/0; env | sort; umask; echo fds: $(ls /proc/self/fd)\n"
        "grep -E 'Sig(Blk|Ign)' /proc/self/status"
    )
    path = put(tmp_path, "h", f"#!/bin/bash\n{script}")  # dash drops names with dots
    log = run(Hook(path, "run")).log.splitlines()
    assert log[:3] == [f"launcher: running {tmp_path}/h", "/", "/dev/null"]
    assert {line for line in log if "=" in line} >= {f"{n}={v}" for n, v in ENVIRON.items()}
    assert "LAUNCHER" not in "".join(log[1:])
    assert "fds: 0 1 2 3" in log, "3 is ls's own"
    assert signal_masks("\n".join(log)) == [0, 0]


def test_runpod_s_need_neither_mode_nor_first_line(tmp_path: Path) -> None:
    path = put(tmp_path, "pre_start.sh", '[[ "$0" == */pre_start.sh ]] && echo in $BASH', 0o644)
    assert "in /bin/bash" in run(Hook(path, "bash")).log


def test_what_is_executed_changes_no_environment(tmp_path: Path) -> None:
    path = put(tmp_path, "h", BEGIN + "export NEW=1; unset KEPT")
    assert run(Hook(path, "run")).changes == Changes({}, ())


@pytest.mark.parametrize(
    ("text", "how"),
    [
        pytest.param(BEGIN + "exit 3", "exit status 3", id="status"),
        pytest.param(BEGIN + "kill -9 $$", "killed by SIGKILL", id="signal"),
        pytest.param("no first line", "#!/bin/bash", id="no-first-line"),
        pytest.param("#!/bin/no-such-shell\n", "not in this image", id="no-such-program"),
        pytest.param("#!/etc/passwd\n", "not executable", id="no-program"),
    ],
)
def test_a_failure_is_named_with_how_it_ended(tmp_path: Path, text: str, how: str) -> None:
    bad = Hook(put(tmp_path, "bad", text), "run")
    good = Hook(put(tmp_path, "good", BEGIN + "echo good was here"), "run")
    stopped = run(bad, good)
    assert bad.path in stopped.failure
    assert how in stopped.failure
    assert "LAUNCHER_HOOKS=warn" in stopped.failure
    assert "good was here" not in stopped.log
    went_on = run(bad, good, go_on=True)
    assert f"launcher: {bad.path} failed: " in went_on.log
    assert how in went_on.log
    assert "good was here" in went_on.log


def test_quiet_says_only_what_goes_wrong(tmp_path: Path) -> None:
    seen = [Hook(put(tmp_path, name, BEGIN + text), "run") for name, text in
            (("a", "exit 0"), ("b", "exit 5"))]  # fmt: skip
    log = run(*seen, go_on=True, quiet=True).log
    assert "running" not in log
    assert "exit status 5" in log


def test_one_that_takes_long_is_named_meanwhile(tmp_path: Path) -> None:
    """It waits for the line about itself, which it can read where it writes."""
    log = tmp_path / "log"
    script = f"until grep -q 'has not ended yet' {log}; do sleep 0.01; done; exit 0"
    hook = Hook(put(tmp_path, "slow", BEGIN + script), "run")
    done = run_script(f"""
import os
from launcher.pid1 import hooks
hooks._FIRST_WORD = hooks._NEXT_WORD = 0.05
log = os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
given = [hooks.Hook({hook.path!r}, "run")]
print(hooks.run_hooks(given, {ENVIRON!r}, log, go_on=False, quiet=False))
""")
    assert "Changes" in done.stdout, done.stderr
    assert f"launcher: {hook.path} has not ended yet" in log.read_text()


def test_a_daemon_holds_nothing_up_and_lives_on(tmp_path: Path) -> None:
    """Neither one of a program's, nor one of a sourced file's."""
    for how in ("run", "source"):
        pid_file = tmp_path / how
        text = f"#!/bin/bash\nsetsid sleep 300 > /dev/null 2>&1 & echo $! > {pid_file}"
        run(Hook(put(tmp_path, f"hook-{how}", text), how))
        pid = int(pid_file.read_text())
        assert Path(f"/proc/{pid}/comm").read_text() in ("sleep\n", "setsid\n", "bash\n")
        os.kill(pid, signal.SIGKILL)


# --- what sourced ones change ------------------------------------------------------------------


def test_every_value_comes_back_as_it_was_exported(tmp_path: Path) -> None:
    """Quotes, dollars, line breaks, bytes that are no UTF-8, 64 kB: into it, and out of it."""
    nasty = {**NASTY, "LINES_": "one\ntwo\n", "BIG": "x'\"$\\ " * 11_000, "BYTES": "\udcff×"}
    copies = "".join(f'export COPY_{name}="${name}"\n' for name in nasty)
    changed = sourced(tmp_path, copies, {**ENVIRON, **nasty})
    assert changed.removed == ()
    assert changed.values == {f"COPY_{name}": value for name, value in nasty.items()}


def test_only_what_is_exported_changed_or_unset_counts(tmp_path: Path) -> None:
    environ = {**ENVIRON, "GONE": "1", "OTHER": "old", "SHLVL": "7", "PWD": "/w", "_": "/x"}
    text = "local_only=1; export OTHER=new; unset GONE; cd /tmp; export EMPTY="
    assert sourced(tmp_path, text, environ) == Changes({"OTHER": "new", "EMPTY": ""}, ("GONE",))


@pytest.mark.parametrize("name", ["status", "hook", "REPLY", "path", "IFS", "OPTIND"])
def test_no_variable_of_ours_is_in_the_way(tmp_path: Path, name: str) -> None:
    """One that the container has keeps its value, and the hook sees that."""
    environ = {**ENVIRON, name: "1"}
    assert sourced(tmp_path, f'[ "${name}" = 1 ] || export SEEN="${name}"', environ) == Changes(
        {}, ()
    ) or name in ("IFS", "OPTIND")  # bash's own, which it never takes from the environment


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("export A=1; set -eu -o noclobber; : $KEPT", id="options"),
        pytest.param("export A=1; exit 0; export A=2", id="exit"),
        pytest.param("export A=1; return 0; export A=2", id="return"),
        pytest.param("export A=1; trap 'echo bye' EXIT", id="its-own-trap"),
        pytest.param("export A=1; exec > /dev/null; IFS=0123; set -- a b", id="redirected"),
        pytest.param("#!/bin/sh\nexport A=1", id="another-first-line"),
    ],
)
def test_whatever_a_hook_does_to_the_shell(tmp_path: Path, text: str) -> None:
    assert sourced(tmp_path, text) == Changes({"A": "1"}, ())


@pytest.mark.parametrize(
    ("text", "how", "kept"),
    [
        pytest.param("export A=1; exit 4", "exit status 4", True, id="exit"),
        pytest.param("export A=1; return 5", "exit status 5", True, id="return"),
        pytest.param("export A=1; set -e; false; export A=2", "status 1", True, id="errexit"),
        pytest.param("export A=1; set -u; : $NO_SUCH", "exit status", True, id="unset-variable"),
        pytest.param("export A=1\n(", "exit status", True, id="syntax"),
        pytest.param("export A=1; kill -9 $$", "killed by SIGKILL", False, id="signal"),
        pytest.param("export A=1; trap true EXIT; exit 0", "come back", False, id="its-own-trap"),
        pytest.param(f"export A=1{'1' * 200_000}", "exit status 126", False, id="too-large"),
    ],
)
def test_a_sourced_one_fails_too(tmp_path: Path, text: str, how: str, kept: bool) -> None:
    """What it had exported by then counts where the start goes on, as in a shell."""
    hook = Hook(put(tmp_path, "bad.sh", text), "source")
    assert how in run(hook).failure
    assert run(hook, go_on=True).changes == Changes({"A": "1"} if kept else {}, ())


def test_each_has_what_those_before_it_exported(tmp_path: Path) -> None:
    first = Hook(put(tmp_path, "1.sh", "export PATH=/mine:$PATH N=1; unset KEPT"), "source")
    second = Hook(put(tmp_path, "2", BEGIN + "echo $PATH $N ${KEPT-none}"), "run")
    third = Hook(put(tmp_path, "3.sh", "export N=$((N + 1))"), "source")
    done = run(first, second, third)
    assert "/mine:/usr/bin:/bin 1 none" in done.log
    assert done.changes == Changes({"PATH": "/mine:/usr/bin:/bin", "N": "2"}, ("KEPT",))
    after = done.changes.applied_to(ENVIRON)
    assert after == {"PATH": "/mine:/usr/bin:/bin", "a.dotted.name": "1", "N": "2"}


def test_a_shell_s_own_start_file_is_not_in_the_way(tmp_path: Path) -> None:
    """BASH_ENV is the container's, as for any bash: what it exports is there, too."""
    start = put(tmp_path, "start", "export FROM_START=1")
    environ = {**ENVIRON, "BASH_ENV": start}
    assert sourced(tmp_path, "export A=$FROM_START", environ).values["A"] == "1"


# --- after the banner --------------------------------------------------------------------------


def test_no_post_start_file_nothing_to_run(tmp_path: Path) -> None:
    assert post_start.files("/run/x", ENVIRON, str(tmp_path)) == ()


def test_post_start_waits_for_the_banner_then_runs_with_that_environment(tmp_path: Path) -> None:
    put(tmp_path, post_start.SCRIPT, f'echo "$0 $KEPT $(pwd) $(ls {tmp_path}/banner)"')
    (tmp_path / "services").mkdir()
    (file,) = post_start.files(str(tmp_path), ENVIRON, str(tmp_path))
    assert file.mode == 0o600, "it holds every value, secrets too"
    files.write([file])
    done = run_script(f"""
import pathlib
from launcher.supervise import post_start
looks = []
def sleep(seconds):
    looks.append(seconds)
    if len(looks) == 3:
        pathlib.Path({str(tmp_path)!r}, "banner").touch()
post_start.time.sleep = sleep
post_start.run_post_start({str(tmp_path)!r})
""")
    assert done.stdout == f"{tmp_path}/post_start.sh as it was / {tmp_path}/banner\n", done.stderr
