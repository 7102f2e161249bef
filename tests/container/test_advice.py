"""What is advised can be done there, by who reads it, and is enough; what cannot be had is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

from testing.container.box import SSH_ALONE, Boxes

POD = "abc123"


def test_a_state_of_another_uid_on_a_rented_machine(box: Boxes, tmp_path: Path) -> None:
    """Nobody there reaches the host: what is advised is done in the container, and is enough."""
    os.chown(tmp_path, 1234, 1234)
    rented = {"RUNPOD_POD_ID": POD}
    started = box(*SSH_ALONE, "-v", f"{tmp_path}:/var/lib/launcher", env=rented)
    banner = " ".join(started.wait_for_banner().split())
    found = re.search(r"is not root's alone: .*? fix: in it, as root: (.*?chmod \S+ \S+)", banner)
    assert found, banner
    started.exec("sh", "-c", found[1])
    started.restart()
    started.wait_for_log(r"(?s)is not root's alone.* Ready .*═{80}")
    assert started.logs().count("is not root's alone") == 1


def test_a_read_only_root_of_another_uid(box: Boxes) -> None:
    """A new volume would be root's: what is advised is what this uid can use."""
    closed = (*SSH_ALONE, "--user", "1000:0", "--read-only")
    refused = box(*closed)
    assert refused.wait() == 78
    found = re.search(r"cannot be written: docker run (--.*?) …", refused.logs())
    assert found, refused.logs()
    banner = " ".join(box(*closed, *found[1].split()).wait_for_banner().split())
    assert " Ready " in banner
    assert "mount a folder of uid 1000: docker run -v DIRECTORY:/state" in banner


def test_a_box_without_a_network_claims_nothing_else(box: Boxes) -> None:
    started = box(*SSH_ALONE, "--network", "none")
    banner = " ".join(started.wait_for_banner().split())
    assert " Ready, without a network after " in banner
    assert "container port 22, which nobody outside reaches" in banner
    assert "this container has no network (--network none)" in banner
    assert started.exec("launcher", "exec", "--", "id", "-un").stdout == "dev\n"


def test_a_name_of_the_host_s_alone(box: Boxes, tmp_path: Path) -> None:
    """`-u $(id -u) -v /etc/passwd:/etc/passwd:ro`: neither her home nor her shell is in the image.

    And a uid without a name, to which the engine gives / for its home: shells have the planned one.
    """
    (tmp_path / "passwd").write_text("ada:x:1234:1234::/home/ada:/usr/bin/fish\n")
    names = ("-v", f"{tmp_path}/passwd:/etc/passwd:ro", "--user", "1234:1234")
    show = 'id -un; cd && touch mine && echo "$HOME $PWD"'
    done = box.run("bash", "-lc", show, options=names)
    home = "/tmp/launcher-1234/home"
    assert done.stdout.decode().split() == ["ada", home, home], done.stderr
    started = box(*SSH_ALONE, "--user", "4321:0")
    started.wait_for_banner()
    for shell in ("-ic", "-lc"):
        said = started.exec("bash", shell, "echo $HOME").stdout
        assert said == started.exec("launcher", "exec", "--", "printenv", "HOME").stdout != "/\n"
