"""A second box of a user without root: its own files and ports."""

from __future__ import annotations

from pathlib import Path

from testing.scripts import run_script


def test_a_second_box_takes_what_is_free(tmp_path: Path) -> None:
    done = run_script(f"""
import os, signal, socket
from launcher.pid1.apart import stand_apart
from launcher.settings.load import load_settings
taken = socket.create_server(("127.0.0.1", 0))
port = taken.getsockname()[1]
settings = load_settings({{}})._replace(
    run_dir={str(tmp_path / "run")!r}, jupyter_port=port, ssh_port=port + 1)
reader, writer = os.pipe()
if (other := os.fork()) == 0:
    first, _ = stand_apart(settings)
    os.write(writer, b"x")
    print("LAUNCHER_RUN_DIR" in first, flush=True)
    os.close(writer)
    signal.alarm(20)
    signal.pause()
os.read(reader, 1)
chosen, said = stand_apart(settings)
print(chosen["LAUNCHER_RUN_DIR"], int(chosen["JUPYTER_PORT"]) > port, len(said) >= 2)
asked = settings._replace(given={{"jupyter_port": "JUPYTER_PORT"}})
print("JUPYTER_PORT" in stand_apart(asked)[0])
os.kill(other, signal.SIGKILL)
""")
    first, second, third = done.stdout.splitlines()
    assert first == "False", done.stderr
    assert second == f"{tmp_path}/run-2 True True"
    assert third == "False"
