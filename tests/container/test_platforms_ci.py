"""How continuous integration starts an image, and goes in."""

from __future__ import annotations

import os
from pathlib import Path

from testing.container.box import Boxes
from testing.container.engine import Docker, poll


def test_gitlab_s_runner_gives_its_script_to_a_shell(box: Boxes, tmp_path: Path) -> None:
    """It looks for a bash, in which a script on standard input runs, in a folder for all."""
    tmp_path.chmod(0o777)
    find = "if [ -x /bin/bash ]; then\n\texec /bin/bash \nelse\n\texit 1\nfi\n\n"
    script = b"set -eo pipefail\ncd /builds\ngit init --quiet me\nid -un\nexit 3\n"
    mount = ("-v", f"{tmp_path}:/builds", "-e", "CI=true")
    done = box.run("sh", "-c", find, options=mount, stdin=script)
    assert (done.returncode, done.stdout) == (3, b"dev\n"), done.stderr
    assert (tmp_path / "me" / ".git").exists()


def test_jenkins_finds_its_command_and_goes_in(box: Boxes, docker: Docker, tmp_path: Path) -> None:
    """docker.inside(): `cat` in a terminal, which it looks for among the processes."""
    os.chown(tmp_path, 1001, 1001)
    work = "/var/jenkins_home/workspace/me"
    options = ("-t", "-u", "1001:1001", "-w", work, "-v", f"{tmp_path}:{work}")
    started = box(*options, command=["cat"], env={"WORKSPACE": work})
    assert poll(
        lambda: " cat\n" in docker("top", started.name, "-eo", "pid,comm").stdout, timeout=60
    )
    said = started.exec("sh", "-c", "touch made; pwd; command -v python").stdout
    assert said.split() == [work, "/opt/venv/bin/python"]
    assert (tmp_path / "made").stat().st_uid == 1001
