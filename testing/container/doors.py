"""The doors into a box: each way in which a person's programs come to run there.

A door runs a shell command and returns what it printed.  What the launcher promises of the
environment, it promises behind every one of them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

from testing.container import kernel
from testing.container.box import Box
from testing.container.engine import DOCKER
from testing.container.login import Login, login
from testing.container.terminal import Terminal
from testing.local_box import free_ports

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


def ssh_bash(box: Box, command: str) -> str:
    """`ssh -T HOST bash`, as VS Code's Remote-SSH begins: a script on standard input."""
    access = way_in(box)
    options = ["-T", "-D", str(*free_ports(1))]  # of ssh: before the host's name
    words = [*access.command()[:-1], *options, access.command()[-1], "bash"]
    return access.run(words, stdin=f"{command}\n").stdout


def tmux(box: Box, command: str) -> str:
    """`ssh HOST tmux`, and type in its first window."""
    typed = shlex.quote(f"{{ {command}; }} > /tmp/tmux.$UID; tmux wait-for -S typed")
    script = (
        f"tmux new-session -d -s door && tmux send-keys -t door -l {typed} && "
        "tmux send-keys -t door Enter && timeout 50 tmux wait-for typed; "
        "cat /tmp/tmux.$UID; tmux kill-session -t door; rm -f /tmp/tmux.$UID"
    )
    return way_in(box).ssh(script).stdout


def sudo_login(box: Box, command: str) -> str:
    """`sudo -i` of somebody who has logged in: root's login shell."""
    return way_in(box).ssh("sudo -i", stdin=f"{command}\n").stdout


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
        ssh_bash,
        tmux,
        sudo_login,
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
