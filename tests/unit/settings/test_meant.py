"""What a container's command means: those of other images, one that does nothing, jupyter."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from launcher.model.errors import BadSetting
from launcher.plan import access
from launcher.settings import load, meant

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("line", "command", "options", "services"),
    [
        ("", "", "", True),
        ("services", "", "", True),
        ("services --debug --port=1", "", "--debug --port=1", True),
        ("start-notebook.py --help", "jupyter lab --help", "", False),
        ("services --version", "jupyter lab --version", "", False),
        ("start-notebook.py", "", "", True),
        ("start-notebook.sh --ServerApp.token=''", "", "--ServerApp.token=''", True),
        ("/usr/local/bin/start-singleuser.py --x", "", "--x", True),
        ("start-notebook.sh ''", "", "", True),
        ("start.sh", "bash", "", False),
        ("start.sh id -u", "id -u", "", False),
        ("start.sh start-notebook.sh --x", "", "--x", True),
        ("start.sh jupyter lab", "jupyter lab", "", False),
        ("/start.sh", "", "", True),
        ("/init", "", "", True),
        ("/init -- id", "id", "", False),
        ("./start.sh", "./start.sh", "", False),
        ("/workspace/init x", "/workspace/init x", "", False),
        ("echo services", "echo services", "", False),
    ],
)
def test_what_is_meant(line: str, command: str, options: str, services: bool) -> None:
    expected = meant.Meant(tuple(shlex.split(command)), tuple(shlex.split(options)), services)
    found = meant.understand(shlex.split(line), {})
    assert found._replace(name="") == expected
    assert bool(found.name) == bool(options)
    assert found.name in line


def test_services_beside_a_command() -> None:
    found = meant.understand(["sleep", "1"], {"LAUNCHER_WITH_COMMAND": "services"})
    assert found == meant.Meant(("sleep", "1"), services=True)
    with pytest.raises(BadSetting, match="LAUNCHER_WITH_COMMAND='both': expected nothing or serv"):
        load.load_settings({"LAUNCHER_WITH_COMMAND": "both"})


def test_options_come_behind_those_that_are_there() -> None:
    behind = {"start-notebook.py": ("--x=a b",)}
    for name in ("NOTEBOOK_ARGS", "LAUNCHER_JUPYTER_ARGS"):
        found = load.load_settings({name: "--debug"}, behind)
        assert found.jupyter_arguments == ("--debug", "--x=a b")
    assert load.load_settings({}, behind).jupyter_arguments == ("--x=a b",)


@pytest.mark.parametrize(
    ("environ", "words", "named"),
    [
        ({"JUPYTER_PORT": "1"}, "--port=2",
         "start-notebook.py --port=*** and JUPYTER_PORT contradict each other"),
        ({"NOTEBOOK_ARGS": "--port=1"}, "--port=2",
         "start-notebook.py --port=*** and NOTEBOOK_ARGS --port contradict each other"),
        ({"NOTEBOOK_ARGS": "--debug"}, "--sock=/x",
         "start-notebook.py --sock: this option has another place here: set JUPYTER_PORT instead"),
        ({"NOTEBOOK_ARGS": "--sock=/x"}, "--debug", "NOTEBOOK_ARGS --sock: this option has"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_as_it_was_written(
    environ: dict[str, str], words: str, named: str
) -> None:
    with pytest.raises(BadSetting) as bad:
        access.check_arguments(
            load.load_settings(environ, {"start-notebook.py": tuple(words.split())})
        )
    assert named in str(bad.value)


def test_an_empty_token_behind_the_command_is_told_by_its_name() -> None:
    found = load.load_settings({}, {"start-notebook.sh": ("--ServerApp.token=",)})
    assert found.warnings == (
        "start-notebook.sh: the token is empty, which would open Jupyter to everyone; a token is "
        "used instead",
    )


def test_the_program_that_is_called_by_these_names_knows_them_all() -> None:
    source = (ROOT / "image/ours/launcher.c").read_text()
    doors = re.search(r"DOORS\[\] = \{(.*?)\}", source, re.DOTALL)
    assert doors
    assert set(re.findall('"(.*?)"', doors[1])) == set(meant.NAMES)
    linked = (ROOT / "image/ours/prepare-folders").read_text()
    assert all(name in linked for name in meant.NAMES)


@pytest.mark.parametrize(
    "command",
    [
        ["sleep", "infinity"],
        ["/bin/sleep", "inf"],
        ["tail", "-f", "/dev/null"],
        ["bash", "-c", "apt update; service ssh start; sleep infinity"],
        ["bash", "-lc", "echo a && exec sleep infinity"],
        ["sh", "-c", "echo a\ntail -F /dev/null\n"],
        ["sh", "-c", "while true; do sleep 30; done"],
        ["/bin/sh", "-c", 'echo up\ntrap "exit 0" 15\nwhile sleep 1 & wait $!; do :; done', "-"],
        ["bash", "-c", "sleep infinity & wait"],
    ],
)
def test_a_command_that_only_keeps_alive(command: list[str]) -> None:
    assert meant.keeps_alive(command)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["sleep", "5"],
        ["python", "train.py"],
        ["tail", "-f", "log"],
        ["bash"],
        ["bash", "-c", "sleep infinity & python train.py"],
        ["bash", "sleep infinity"],
        ["echo", "x; sleep infinity"],
    ],
)
def test_a_command_that_does_something(command: list[str]) -> None:
    assert not meant.keeps_alive(command)


@pytest.mark.parametrize(
    ("line", "root", "added"),
    [
        ("jupyter lab", False, "--ip=* --no-browser"),
        ("jupyter notebook --port 9", False, "--ip=* --no-browser"),
        ("/opt/venv/bin/jupyter-lab", True, "--ip=* --allow-root --no-browser"),
        ("jupyter lab --allow-root --no-browser", True, "--ip=*"),
        ("jupyter lab --ServerApp.ip=127.0.0.1", False, "--no-browser"),
        ("jupyter lab --sock=/x --no-browser", False, ""),
        ("jupyter lab list", False, ""),
        ("jupyter lab --version", False, ""),
        ("jupyter kernelspec list", False, ""),
        ("jupyter lab workspaces import x", False, ""),
        ("jupyter lab /workspace", False, "--ip=* --no-browser"),
        ("jupyter notebook a.ipynb --ip=0.0.0.0", False, "--no-browser"),
        ("jupyter", False, ""),
        ("python -m jupyterlab", False, "--ip=* --no-browser"),
        ("/opt/venv/bin/python3.11 -u -m jupyter lab --port=9", True,
         "--ip=* --allow-root --no-browser"),
        ("python -m notebook list", False, ""),
        ("python -m pip install jupyterlab", False, ""),
        ("python train.py -m jupyterlab", False, ""),
        ("python -m", False, ""),
    ],
)  # fmt: skip
def test_jupyter_as_the_command_can_be_reached(line: str, root: bool, added: str) -> None:
    words = tuple(line.split())
    assert meant.reachable(words, root) == (*words, *added.split())


@pytest.mark.parametrize(
    ("line", "added"),
    [
        ("jupyter lab", " '--ip=*' --no-browser"),
        ("pip install x && exec jupyter lab --port=9", " '--ip=*' --no-browser"),
        ("cd /data; jupyter notebook --no-browser;", " '--ip=*'"),
        ("jupyter lab --ip=0.0.0.0 --allow-root --no-browser", ""),
        ("jupyter lab > log", ""),
        ("jupyter lab & sleep infinity", ""),
        ("echo 'a; jupyter lab'", ""),
        ("(jupyter lab)", ""),
        ("echo jupyter lab", ""),
        ("jupyter lab $OPTIONS", ""),
        ("# jupyter lab", ""),
    ],
)
def test_so_it_can_at_the_end_of_a_shell_s_line(line: str, added: str) -> None:
    found = meant.reachable(("bash", "-lc", line, "$0"), as_root=False)
    assert found == ("bash", "-lc", line.rstrip(";") + added, "$0")
    assert meant.reachable(("bash", line), as_root=False) == ("bash", line)


@pytest.mark.parametrize(
    ("words", "unguarded"),
    [
        (["jupyter", "lab", "--ServerApp.token="], True),
        (["jupyter", "lab", "--IdentityProvider.token=''"], True),
        (["jupyter", "notebook", "--NotebookApp.token", "", "--port=9"], True),
        (["python", "-m", "jupyterlab", "--LabApp.token="], True),
        (["bash", "-c", "cd /x && jupyter lab --ServerApp.token='' --no-browser"], True),
        (["jupyter", "lab", "--ServerApp.token=", "--ServerApp.password=argon2:x"], False),
        (["jupyter", "lab", "--ServerApp.token=secret"], False),
        (["jupyter", "lab", "--ServerApp.token=", "--ip=0.0.0.0"], False),
        (["jupyter", "lab"], False),
        (["echo", "--ServerApp.token="], False),
        ([], False),
    ],
)
def test_jupyter_that_lets_everybody_in_stays_where_nobody_comes(
    words: list[str], unguarded: bool
) -> None:
    assert meant.is_unguarded(words) == unguarded
    if unguarded:
        assert "--ip=*" not in " ".join(meant.reachable(words, as_root=False))
