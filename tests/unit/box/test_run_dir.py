"""A run directory belongs to one box at a time."""

from __future__ import annotations

from pathlib import Path

from testing.scripts import run_script


def test_a_second_box_is_refused_and_a_crashed_one_leaves_no_claim(tmp_path: Path) -> None:
    run = f"DIRECTORY = {str(tmp_path / 'run')!r}\n"
    done = run_script(
        run
        + """
import os, signal
from launcher.box import run_dir
from launcher.model.errors import BadSetting
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    run_dir.claim(DIRECTORY)
    os.write(writer, b"x")
    signal.pause()
os.read(reader, 1)
try:
    run_dir.claim(DIRECTORY)
except BadSetting as err:
    print(err)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
run_dir.claim(DIRECTORY)
print("free again")
"""
    )
    refused, free = done.stdout.splitlines()
    assert refused.startswith(f"another box runs in {tmp_path / 'run'}")
    assert "LAUNCHER_RUN_DIR" in refused
    assert free == "free again", done.stderr


def test_no_link_is_followed_and_no_lock_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/lock").symlink_to(tmp_path / "theirs")
    done = run_script(f"""
from launcher.box import run_dir
run_dir.claim({str(tmp_path / "run")!r})
run_dir.claim("/proc/nowhere")
print("goes on")
""")
    assert done.stdout == "goes on\n", done.stderr
    assert not (tmp_path / "theirs").exists()
