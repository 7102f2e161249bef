"""The doors that people come through: commands, values and places of other images and platforms."""

from __future__ import annotations

import http.client
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from testing.container.box import SSH_ALONE, Box, Boxes
from testing.container.engine import Docker, poll

TOKEN = "door-token"
PREFIX = "/notebook/ns/me"
POD = "abc123"


def answers(box: Box, path: str, headers: dict[str, str] | None = None) -> int:
    """Return the status of a request to Jupyter; 0 where nothing answers."""
    connection = http.client.HTTPConnection("127.0.0.1", box.port(8888), timeout=10)
    try:
        connection.request("GET", path, headers=headers or {})
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def log_in(box: Box) -> dict[str, str]:
    """Return the cookies that a browser has once it has opened the URL."""
    connection = http.client.HTTPConnection("127.0.0.1", box.port(8888), timeout=10)
    connection.request("GET", f"/lab?token={TOKEN}")
    given = connection.getresponse().headers.get_all("Set-Cookie") or []
    connection.close()
    return {"Cookie": "; ".join(cookie.partition(";")[0] for cookie in given)}


def websocket(origin: str) -> dict[str, str]:
    return {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==", "Origin": origin,
    }  # fmt: skip


# --- commands that people pass already ---------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "command", "path"),
    [
        pytest.param((), ["services", f"--ServerApp.base_url={PREFIX}"], PREFIX, id="spawner"),
        pytest.param((), ["start-notebook.py", f"--IdentityProvider.token={TOKEN}"], "", id="py"),
        pytest.param(("--entrypoint", "start-notebook.sh"), [], "", id="in-the-entrypoint-s-place"),
        pytest.param((), ["bash", "-c", "start-notebook.sh"], "", id="in-a-shell"),
        pytest.param((), ["/start.sh"], "", id="runpod"),
        pytest.param((), ["jupyter", "lab"], "", id="jupyter-lab"),
        # The last of a line, of a shell that sets PATH anew, by another name and with a folder.
        pytest.param(
            (),
            ["bash", "-lc", "cd / && exec jupyter notebook /workspace"],
            "",
            id="at-the-end-of-a-line",
        ),
    ],
)
def test_a_command_of_another_image_opens_jupyter(
    box: Boxes, options: Sequence[str], command: Sequence[str], path: str
) -> None:
    given = {} if any(TOKEN in word for word in command) else {"JUPYTER_TOKEN": TOKEN}
    started = box(*options, command=command, env=given)
    reached = f"{path}/api/contents?token="
    assert poll(lambda: answers(started, reached + TOKEN) == 200, timeout=90), started.logs()
    assert answers(started, reached + "another") == 403


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (["start.sh", "id", "-un"], "dev\n"),
        (["/init", "bash", "-lc", "command -v python"], "/opt/venv/bin/python\n"),
    ],
)
def test_a_wrapper_runs_what_follows_it(box: Boxes, command: Sequence[str], out: str) -> None:
    done = box.run(*command)
    assert (done.returncode, done.stdout.decode()) == (0, out)


def test_a_command_that_only_keeps_alive_is_named_where_people_want_in(box: Boxes) -> None:
    idle = ["bash", "-c", "echo on; sleep infinity"]
    alone = box(command=idle, env={"RUNPOD_POD_ID": POD})
    alone.wait_for_log(r"this command replaces the services, .*LAUNCHER_WITH_COMMAND=services")
    both = box(command=idle, env={"RUNPOD_POD_ID": POD, "LAUNCHER_WITH_COMMAND": "services"})
    both.wait_for_banner()
    assert "replaces the services" not in both.logs()
    assert re.search("^on$", both.logs(), re.MULTILINE)
    assert both.exec("launcher", "status", check=False).returncode == 0
    both.exec("pkill", "-x", "sleep")
    both.wait_for_log(r"the command ended \(killed by SIGTERM\); the box goes on")
    assert both.exec("launcher", "healthcheck", check=False).returncode == 0
    both.stop()
    assert both.exit_code() == 0


def test_where_the_entrypoint_was_replaced_the_box_starts_all_the_same(box: Boxes) -> None:
    loop = "while sleep 1 & wait $!; do :; done"
    started = box("--entrypoint", "/bin/sh", command=["-c", loop])
    for command in (["status"], ["url"], ["exec", "--", "id"], ["settings"]):
        said = started.exec("launcher", *command, check=False).stderr
        assert "entrypoint did not run here" in said, command
        assert "launcher start --background" in said, command
    shown = started.exec("launcher", "run", "--", "id", "-un", user="dev")
    assert shown.stdout == "dev\n"
    started.exec("launcher", "start", "--background")
    assert "launcher: " not in started.exec("launcher", "status").stderr
    assert "token=" in started.exec("launcher", "url").stdout
    assert started.exec("launcher", "exec", "--", "id", "-un").stdout == "dev\n"
    again = started.exec("launcher", "start", "--background", check=False)
    assert (again.returncode, "a box runs here already" in again.stderr) == (78, True)


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["--help"], 0, "docker run --rm --gpus all IMAGE python train.py"),
        (["start-notebook.sh", "--help"], 0, "JupyterLab - An extensible computational environ"),
        (["-p", "8888:8888"], 127, "options of the engine stand before the image"),
    ],
)
def test_who_asks_what_can_be_run_is_told(
    box: Boxes, command: Sequence[str], status: int, said: str
) -> None:
    done = box.run(*command)
    assert done.returncode == status
    assert said in (done.stdout + done.stderr).decode()


# --- behind proxies ----------------------------------------------------------------------------


def test_pages_of_the_printed_origin_may_use_kernels_and_no_others(box: Boxes) -> None:
    more = "https://lab.example.org"
    env = {"RUNPOD_POD_ID": POD, "JUPYTER_TOKEN": TOKEN, "LAUNCHER_ALLOW_ORIGIN": more}
    started = box(env=env)
    banner = started.wait_for_banner()
    assert f"https://{POD}-8888.proxy.runpod.net/lab" in banner
    cookie = log_in(started)  # as a browser: who brings the token with each request is not asked
    asked = {
        origin: answers(started, "/api/events/subscribe", websocket(origin) | cookie)
        for origin in (
            f"https://{POD}-8888.proxy.runpod.net", more, f"{more}.evil.example",
            "https://other-8888.proxy.runpod.net",
        )
    }  # fmt: skip
    assert list(asked.values()) == [101, 101, 403, 403], asked
    started.wait_for_log("to allow this page: LAUNCHER_ALLOW_ORIGIN=https://other-8888")


# --- work is never lost silently ---------------------------------------------------------------


@pytest.fixture(scope="module")
def volume(docker: Docker) -> Iterator[str]:
    """Return a volume with a file in it, as one that was used before."""
    name = f"pcl-doors-{os.getpid()}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", "--force", name, check=False)


WRITES = 'touch "$WORKSPACE/x" && stat -c %u "$WORKSPACE/x" && pwd && echo "$WORKSPACE"'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("-e", "NB_UID=1001"), "1001 /workspace /workspace", id="NB_UID"),
        pytest.param(("-e", "PUID=1001", "-e", "PGID=1001"), "1001 /workspace /workspace",
                     id="PUID"),
        pytest.param(("--user", "1234560000:0"), "1234560000 /workspace /workspace",
                     id="openshift"),
        pytest.param(("-e", "NB_UID=1001", "-v", "/workspace"), "1001 /workspace /workspace",
                     id="a-new-volume"),
        pytest.param(("-e", "WORKSPACE=/home/dev"), "1000 /home/dev /home/dev", id="WORKSPACE"),
        pytest.param(("-e", "WORKSPACE=/home/dev", "-w", "/tmp"), "1000 /tmp /home/dev", id="-w"),
    ],
)  # fmt: skip
def test_who_it_is_can_save(box: Boxes, options: Sequence[str], said: str) -> None:
    done = box.run("sh", "-c", WRITES, options=options)
    assert done.stdout.decode().split() == said.split(), done.stderr


def test_a_workspace_that_root_may_not_enter_is_its_owner_s(box: Boxes, tmp_path: Path) -> None:
    """A network disk that takes root for nobody: its user can, the engine's root cannot."""
    os.chown(tmp_path, 1234, 1234)
    tmp_path.chmod(0o700)
    weak = ("--cap-drop", "DAC_OVERRIDE", "--cap-drop", "DAC_READ_SEARCH")
    done = box.run("sh", "-c", WRITES, options=(*weak, "-v", f"{tmp_path}:/workspace"))
    assert done.stdout.decode().split() == ["1234", "/workspace", "/workspace"], done.stderr


def test_a_folder_that_the_container_is_started_in_is_its_owner_s(
    box: Boxes, tmp_path: Path
) -> None:
    """`-v $PWD:/app -w /app`, as people start a command of any image."""
    os.chown(tmp_path, 1234, 1234)
    (tmp_path / "deeper").mkdir()
    os.chown(tmp_path / "deeper", 1234, 1234)
    for where in ("/app", "/app/deeper"):
        done = box.run("sh", "-c", WRITES, options=("-v", f"{tmp_path}:/app", "-w", where))
        assert done.stdout.decode().split() == ["1234", where, where], done.stderr


def test_root_as_the_user_has_a_home_beside_the_others(box: Boxes) -> None:
    shown = "getent passwd root; echo $HOME; echo ~root"
    done = box.run("bash", "-lc", shown, env={"NB_USER": "root", "NB_UID": "0"})
    line = "root:x:0:0:root:/home/root:/bin/bash"
    assert done.stdout.decode().split() == [line, "/home/root", "/home/root"]


def test_a_platform_s_volume_is_home_and_workspace(box: Boxes, volume: str) -> None:
    show = "echo $HOME; pwd; touch work"
    given = ("-v", f"{volume}:/home/jovyan", "-e", "NB_PREFIX=/notebook/ns/me")
    for user in ((), ("--user", "1000:100")):
        done = box.run("sh", "-c", show, options=(*given, *user))
        assert done.stdout.decode().split() == ["/home/jovyan"] * 2, (user, done.stderr)
    assert box.run("ls", "/v", options=("-v", f"{volume}:/v")).stdout == b"work\n"


def test_what_ends_with_the_container_is_said_once_with_what_keeps_it(
    box: Boxes, volume: str
) -> None:
    banners = {
        where: " ".join(box(*SSH_ALONE, "-v", f"{volume}:{where}").wait_for_banner().split())
        for where in ("/home/jovyan/work", "/workspace", "/var/lib/launcher")
    }
    other = "a volume is mounted on /home/jovyan/work, which nothing here opens"
    assert other in banners["/home/jovyan/work"]
    assert "-e WORKSPACE=/home/jovyan/work" in banners["/home/jovyan/work"]
    assert "ends with the container" not in banners["/workspace"]
    assert "/workspace is no volume" in banners["/var/lib/launcher"]
    assert "-v $PWD:/workspace" in banners["/var/lib/launcher"]


# --- values as they come -----------------------------------------------------------------------


def test_values_as_engines_hand_them_on(box: Boxes, tmp_path: Path) -> None:
    """Quotes of an --env-file, a key file that is not there, a time zone and a terminal unknown."""
    (tmp_path / "env").write_text(
        f"JUPYTER_TOKEN=\"{TOKEN}\"\nJUPYTER_PORT='8888'\nTZ=Europe/Zuerich\n"
    )
    missing = f"{tmp_path}/none/id.pub:/etc/launcher/authorized_keys.d/me.pub"
    started = box("--env-file", f"{tmp_path}/env", "-v", missing)
    banner = started.wait_for_banner()
    assert f"token={TOKEN}\n" in banner
    assert not re.search(r"^   password", banner, re.MULTILINE)
    for said in ("JUPYTER_TOKEN has quotes", "me.pub: cannot read it: it is a folder: an engine",
                 "did you mean Europe/Zurich?"):  # fmt: skip
        assert said in started.logs()
    asked = ["script", "-qc", "bash -c 'true'; bash -ic 'echo T=$TERM'", "/dev/null"]
    shown = started.exec(*asked, env={"TERM": "xterm-unheard-of"}).stdout
    assert "T=xterm-256color" in shown
    gone = box("-v", f"{tmp_path}/none/x.conf:/etc/launcher/supervisor.d/x.conf")
    assert gone.wait() == 78
    assert "x.conf: it is a folder: an engine makes one" in gone.logs()
