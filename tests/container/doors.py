"""The doors into a box: each way in which a person's programs come to run there.

A door runs a shell command and returns what it printed.  What the launcher promises of the
environment, it promises behind every one of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.container import kernel
from tests.container.box import Box
from tests.container.engine import DOCKER
from tests.container.login import Login, login
from tests.container.terminal import Terminal

Door = Callable[[Box, str], str]

# Ours to find again in what a shell prints, and in two pieces where it echoes what is typed.
BEGIN, END = "<<<begin", "end>>>"
MARKED = "printf '%s%s\\n' '<<<' begin; {}; printf '%s%s\\n' end '>>>'; exit\r"
PRINT_ENVIRONMENT = "/opt/venv/bin/python -c 'import json, os; print(json.dumps(dict(os.environ)))'"


def notebook(box: Box, command: str) -> str:
    """Run it from a cell."""
    run = f"import subprocess; print(subprocess.getoutput({command!r}))"
    return kernel.connect(box).run_cell(run)


def jupyter_terminal(box: Box, command: str) -> str:
    """Type it in a terminal of JupyterLab."""
    with kernel.connect(box).terminal() as terminal:
        return terminal.run(command)


def ssh_command(box: Box, command: str) -> str:
    """`ssh HOST COMMAND`."""
    return way_in(box).ssh(command).stdout


def ssh_login_command(box: Box, command: str) -> str:
    """`ssh HOST bash -l`, the command on its standard input."""
    return way_in(box).ssh("bash -l", stdin=f"{command}\n").stdout


def ssh_login_shell(box: Box, command: str) -> str:
    """`ssh HOST`, and type."""
    access = way_in(box)
    ssh = [*access.with_password, *access.command()]
    return _type(Terminal(ssh, access.environment), command)


def docker_exec_terminal(box: Box, command: str) -> str:
    """`docker exec -it BOX bash`, and type."""
    bash = [DOCKER, "exec", "-it", box.name, "bash"]
    return _type(Terminal(bash, box.docker.environment), command)


def docker_exec_interactive(box: Box, command: str) -> str:
    """`docker exec BOX bash -ic COMMAND`."""
    return box.exec("bash", "-ic", command).stdout


def launcher_exec(box: Box, command: str) -> str:
    """`docker exec BOX launcher exec -- sh -c COMMAND`."""
    return box.exec("launcher", "exec", "--", "sh", "-c", command).stdout


DOORS: dict[str, Door] = {
    door.__name__: door
    for door in (
        notebook,
        jupyter_terminal,
        ssh_command,
        ssh_login_command,
        ssh_login_shell,
        docker_exec_terminal,
        docker_exec_interactive,
        launcher_exec,
    )
}


def environment(box: Box, door: Door) -> dict[str, str]:
    """Return the environment that a program has behind this door."""
    # One line, in ASCII: no terminal on the way changes a byte of it.
    lines = door(box, PRINT_ENVIRONMENT).splitlines()
    found = next((line for line in lines if line.startswith("{")), None)
    assert found, lines
    return dict(json.loads(found))


def way_in(box: Box) -> Login:
    """Return the login that the box's banner offers: its password."""
    return login(box)


def _type(terminal: Terminal, command: str) -> str:
    try:
        terminal.type(MARKED.format(command))
        terminal.read_until(BEGIN)
        return terminal.read_until(rf"\r\n((?s:.*?)){END}")[1].replace("\r\n", "\n")
    finally:
        terminal.close()
