"""`docker run -it IMAGE CMD…`: job control, Ctrl-C, Ctrl-Z, and a window that is resized."""

from __future__ import annotations

import fcntl
import re
import signal
import struct
import termios
from collections.abc import Iterator, Sequence

import pytest

from testing.container.box import Boxes
from testing.container.terminal import Terminal

SUMMARY = r"launcher: .*\n"


def python(source: str) -> tuple[str, ...]:
    """Return the command that runs `source` in the user's Python."""
    return ("python", "-u", "-c", source)


@pytest.fixture(params=[(), ("--init",)], ids=["pid-1", "docker-init"])
def shell(box: Boxes, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """Start `docker run -it IMAGE bash` and wait for its prompt."""
    # Without readline, which changes the terminal's mode at each prompt: typed keys would race it.
    bash = ("bash", "--norc", "--noediting")
    terminal = box.terminal(*bash, options=request.param, env={"PS1": "prompt> "})
    terminal.read_until("prompt> ")
    yield terminal
    terminal.type("\x03\rexit 0\r")
    assert terminal.exit_code() == 0


def test_a_shell_has_job_control(shell: Terminal) -> None:
    """Ctrl-Z stops the job, not the shell; `fg` brings it back; Ctrl-C ends it."""
    assert not re.search("no job control|cannot set terminal process group", shell.shown)
    shell.type("cat\r")
    shell.type("once\r")
    shell.read_until("once\r\nonce")  # as typed, and from cat: it has the terminal
    shell.type("\x1a")
    shell.read_until(r"Stopped +cat")
    shell.type("echo $(jobs -s | wc -l) job\r")
    shell.read_until("1 job")
    shell.type("fg\r")
    shell.read_until(r"fg(?s:.*)cat\r\n")
    shell.type("again\r")
    shell.read_until("again\r\nagain")
    shell.type("\x03")
    shell.read_until("prompt> ")
    shell.type("echo ended with $?\r")
    shell.read_until("ended with 130")


# It looks at its input now and then: a signal just before a blocking read would wait for a line.
COUNT_INTERRUPTS = """
import select, signal, sys
count = 0
def interrupted(*_):
    global count
    count += 1
    print("interrupt", count)
signal.signal(signal.SIGINT, interrupted)
print("ready")
while not select.select([sys.stdin], [], [], 0.05)[0]:
    pass
print("counted", count)
"""


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_ctrl_c_interrupts_the_command_once(box: Boxes, options: Sequence[str]) -> None:
    """In the launcher's own process group it would arrive twice: typed, and forwarded."""
    terminal = box.terminal(*python(COUNT_INTERRUPTS), options=options)
    terminal.read_until("ready")
    for number in (1, 2, 3):
        terminal.type("\x03")
        terminal.read_until(f"interrupt {number}")
    terminal.type("\r")
    assert terminal.read_until(r"counted (\d+)")[1] == "3"
    assert terminal.exit_code() == 0


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["cat"], id="alone"),
        pytest.param(["sh", "-c", "cat; exit"], id="below-a-script"),
    ],
)
def test_ctrl_z_does_not_hang_the_box(box: Boxes, command: Sequence[str]) -> None:
    """Nobody is above the command who could continue it."""
    terminal = box.terminal(*command)
    terminal.read_until(SUMMARY)  # typed earlier, docker's own terminal echoes it too
    terminal.type("once\r")
    terminal.read_until("once\r\nonce")
    terminal.type("\x1a")
    terminal.read_until(r"\^Z")
    terminal.type("on it goes\r")
    terminal.read_until("on it goes\r\non it goes")
    terminal.type("\x04")
    assert terminal.exit_code() == 0


def test_typed_input_reaches_the_command(box: Boxes) -> None:
    terminal = box.terminal("python", "-c", "print('hello', input('your name? '))")
    terminal.read_until(r"your name\? ")
    terminal.type("Ada\r")
    terminal.read_until("hello Ada")
    assert terminal.exit_code() == 0


def test_ctrl_c_ends_a_program_that_does_not_handle_it(box: Boxes) -> None:
    source = "import time; print('ready')\nwhile True: time.sleep(0.05)"
    terminal = box.terminal(*python(source))
    terminal.read_until("ready")
    terminal.type("\x03")
    terminal.read_until("KeyboardInterrupt")
    assert terminal.exit_code() == 128 + 2


WATCH_SIZE = """
import os, signal
def show(*_):
    size = os.get_terminal_size()
    print(f"size {size.columns}x{size.lines}.")
signal.signal(signal.SIGWINCH, show)
show()
input()
"""


def test_a_resized_window_reaches_the_command(box: Boxes) -> None:
    terminal = box.terminal(*python(WATCH_SIZE))
    terminal.read_until(r"size 80x24\.")
    resize(terminal, rows=50, columns=132)
    terminal.read_until(r"size 132x50\.")
    terminal.type("\r")
    assert terminal.exit_code() == 0


def resize(terminal: Terminal, *, rows: int, columns: int) -> None:
    """Do what a terminal emulator does when its window is resized."""
    size = struct.pack("HHHH", rows, columns, 0, 0)
    fcntl.ioctl(terminal._keyboard, termios.TIOCSWINSZ, size)
    terminal._process.send_signal(signal.SIGWINCH)


def test_the_terminal_can_be_opened_by_name(box: Boxes) -> None:
    terminal = box.terminal("sh", "-c", "echo out > /dev/stdout; echo tty > /dev/tty; tty")
    assert terminal.exit_code() == 0
    assert [name for name in ("out", "tty", "/dev/pts/0") if name not in terminal.shown] == []
