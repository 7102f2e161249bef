"""`docker run IMAGE CMD…`: the user's command, as if the launcher were not there."""

from __future__ import annotations

import fcntl
import hashlib
import json
import random
import re
import signal
import socket
import struct
import termios
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.container.box import Box, Boxes
from tests.container.engine import poll
from tests.container.terminal import Terminal
from tests.sim import driver

GPUS = ("--gpus", "all")
HUNG = {"NVSIM_CONTAINER_MACHINE": "hung-init", "LAUNCHER_DETECT_TIMEOUT": "2"}
SUMMARY = re.compile(r"launcher: .*\n")


def python(source: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs `source` in the user's Python."""
    return ("python", "-u", "-c", source, *arguments)


# --- how it ends ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        pytest.param(["true"], 0, id="success"),
        pytest.param(["sh", "-c", "exit 3"], 3, id="its-own-status"),
        pytest.param(["sh", "-c", "exit 255"], 255, id="the-highest-status"),
        pytest.param(["/etc/passwd"], 126, id="not-executable"),
        pytest.param(["/workspace"], 126, id="a-directory"),
        pytest.param(["no-such-program"], 127, id="not-found"),
        pytest.param(["./no-such-program"], 127, id="no-such-path"),
        pytest.param([""], 127, id="an-empty-name"),
        pytest.param(["sh", "-c", "kill -9 $$"], 128 + 9, id="killed"),
        pytest.param(["sh", "-c", "kill -15 $$"], 128 + 15, id="terminated"),
        pytest.param(["sh", "-c", "kill -11 $$"], 128 + 11, id="crashed"),
    ],
)
def test_exit_code(box: Boxes, command: Sequence[str], code: int) -> None:
    """The command's own status; else what a shell would have returned, and why."""
    done = box.run(*command)
    assert done.returncode == code
    refused = f"cannot run {command[0]!r}" in done.stderr.decode()
    assert refused == (code in (126, 127)), done.stderr


@pytest.mark.parametrize(
    ("env", "options", "message"),
    [
        pytest.param({"JUPYTER_PORT": "banana"}, (), "JUPYTER_PORT='banana'", id="port"),
        pytest.param({"LAUNCHER_GPUS": "banana"}, (), "LAUNCHER_GPUS='banana'", id="gpus"),
        pytest.param({"LAUNCHER_GPUS": "0,9"}, GPUS, "LAUNCHER_GPUS: 9", id="no-such-gpu"),
        pytest.param({"WORKSPACE": "here"}, (), "WORKSPACE='here'", id="relative-path"),
    ],
)
def test_bad_setting_ends_before_the_command_starts(
    box: Boxes, env: dict[str, str], options: Sequence[str], message: str
) -> None:
    done = box.run("echo", "started", env=env, options=options)
    assert (done.returncode, done.stdout) == (78, b"")
    assert message in done.stderr.decode()


@pytest.mark.parametrize(
    ("required", "options", "code"),
    [
        pytest.param("1", (), 69, id="no-gpu"),
        pytest.param("8", GPUS, 0, id="enough"),
        pytest.param("9", GPUS, 69, id="one-too-few"),
    ],
)
def test_required_gpus(box: Boxes, required: str, options: Sequence[str], code: int) -> None:
    done = box.run("echo", "started", env={"LAUNCHER_REQUIRE_GPU": required}, options=options)
    assert (done.returncode, done.stdout) == (code, b"started\n" if code == 0 else b"")
    assert ("LAUNCHER_REQUIRE_GPU" in done.stderr.decode()) == (code != 0)


# --- who it is, where it is, what it sees -----------------------------------------------------


def test_runs_as_the_workspace_user(box: Boxes) -> None:
    script = (
        "id -u; id -g; id -Gn; pwd; umask; echo $HOME $USER $LOGNAME $SHELL; touch ~/x && rm ~/x"
    )
    lines = box.run("sh", "-c", script).stdout.decode().splitlines()
    assert lines == ["1000", "1000", "dev", "/workspace", "0022", "/home/dev dev dev /bin/bash"]


def test_keeps_the_user_that_docker_was_given(box: Boxes) -> None:
    """As OpenShift does: a uid that no passwd file knows."""
    done = box.run("sh", "-c", "id -u; id -G; echo $HOME", options=["--user", "12345:0"])
    assert done.stdout.decode().split() == ["12345", "0", "/tmp"]


@pytest.mark.parametrize("folder", ["/", "/tmp", "/home/dev", "/made by docker"])
def test_working_directory_is_docker_s(box: Boxes, folder: str) -> None:
    assert box.run("pwd", options=["-w", folder]).stdout.decode() == f"{folder}\n"


def test_devices_are_those_of_a_service(box: Boxes) -> None:
    """Eight GPUs: the same variables that kernels and logins get, from the same plan."""
    shown = box.run("printenv", options=GPUS).stdout.decode().splitlines()
    cuda = sorted(line for line in shown if line.startswith("CUDA_"))
    assert cuda == ["CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7"]


def test_a_device_that_docker_did_not_give_is_not_named(box: Boxes) -> None:
    done = box.run("printenv", "CUDA_VISIBLE_DEVICES", options=["--gpus", '"device=1,2"'])
    assert done.stdout == b"0,1\n"


def test_without_gpus_no_variable_hides_any(box: Boxes) -> None:
    assert "CUDA_" not in box.run("printenv").stdout.decode()


def test_the_user_s_variables_win(box: Boxes) -> None:
    kept = {"CUDA_VISIBLE_DEVICES": "3", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}
    done = box.run("printenv", *kept, options=GPUS, env=kept)
    assert done.stdout.decode().splitlines() == list(kept.values())


def test_torch_sees_the_planned_devices(box: Boxes) -> None:
    source = "import torch; print(torch.cuda.device_count())"
    options, env = GPUS, {"LAUNCHER_GPUS": "6,1"}
    assert box.run(*python(source), options=options, env=env).stdout == b"2\n"


# --- what goes in and what comes out ----------------------------------------------------------


def test_arguments_arrive_byte_exact(box: Boxes) -> None:
    arguments = [
        "two words",
        "",
        "it's",
        'say "hi"',
        "a\nb",
        "tab\t",
        "$HOME `id` %(x)s %s",
        "\\",
        "é",
    ]
    arguments += ["--help", "-I", "*", "#", ";", "&&"]
    done = box.run(*python("import json, sys; print(json.dumps(sys.argv[1:]))", *arguments))
    assert json.loads(done.stdout) == arguments


def test_a_large_environment_value_arrives_byte_exact(box: Boxes) -> None:
    odd = "'\"$%\n\\;# =\t` é(){}"
    value = (odd * (1 + 65536 // len(odd)))[:65536]
    done = box.run("printenv", "VALUE", env={"VALUE": value})
    assert done.stdout.decode() == value + "\n"


def test_a_pipe_of_fifty_megabytes_goes_through(box: Boxes) -> None:
    """Every byte, both ways, and the end of the input is seen."""
    sent = random.Random(50).randbytes(50 << 20)
    done = box.run(
        *("sh", "-c", "tee /dev/stderr | cat"),
        options=["--log-driver", "none"],
        env={"LAUNCHER_QUIET": "1"},
        stdin=sent,
    )
    assert done.returncode == 0
    digest = hashlib.sha256(sent).hexdigest()
    assert [hashlib.sha256(part).hexdigest() for part in (done.stdout, done.stderr)] == [digest] * 2


def test_one_line_on_standard_error_and_nothing_on_standard_output(box: Boxes) -> None:
    done = box.run("sh", "-c", "echo out; echo err >&2", options=GPUS)
    assert done.stdout == b"out\n"
    summary, separator, rest = done.stderr.decode().partition("err\n")
    assert SUMMARY.fullmatch(summary), summary
    assert (separator, rest) == ("err\n", "")
    assert "8 × NVIDIA H100" in summary
    assert "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5,6,7" in summary


def test_quiet_prints_nothing(box: Boxes) -> None:
    done = box.run("true", env={"LAUNCHER_QUIET": "1"}, options=GPUS)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_quiet_prints_nothing_of_a_slow_driver_either(box: Boxes) -> None:
    env = {**HUNG, "LAUNCHER_DETECT_TIMEOUT": "3", "LAUNCHER_QUIET": "1"}
    done = box.run("true", env=env, options=GPUS)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("stdin", [None, b""], ids=["no-stdin", "a-pipe"])
def test_standard_streams_can_be_opened_by_name(box: Boxes, stdin: bytes | None) -> None:
    """/dev/stdout is a new open(2) of a pipe that root made: EACCES unless it was handed over."""
    done = box.run("sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr", stdin=stdin)
    assert (done.returncode, done.stdout) == (0, b"out\n")
    assert done.stderr.endswith(b"err\n")


def test_nothing_else_is_open(box: Boxes) -> None:
    done = box.run(*python("import os; print(os.listdir('/proc/self/fd'))"))
    assert json.loads(done.stdout.decode().replace("'", '"')) == ["0", "1", "2", "3"]


# --- signals ----------------------------------------------------------------------------------

REPORT_SIGNALS = """
import signal
numbers = [signal.Signals["SIG" + name] for name in "HUP INT QUIT USR1 USR2 TERM WINCH".split()]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready")
while True:
    number = signal.sigwait(numbers)
    print("got", number.name)
    if number == signal.SIGTERM:
        raise SystemExit(5)
"""


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_signals_are_forwarded_once(box: Boxes, options: Sequence[str]) -> None:
    """`docker kill -s`: each arrives, once; the status after TERM is the command's own."""
    running = box(*options, command=python(REPORT_SIGNALS))
    running.wait_for_log("ready")
    names = ["HUP", "USR1", "USR2", "WINCH", "INT", "TERM"]
    for name in names:
        running.kill(name)
        running.wait_for_log(f"got SIG{name}", timeout=5)
    assert running.wait(timeout=5) == 5
    assert re.findall(r"got SIG(\w+)", running.logs()) == names


def test_stop_ends_a_command_without_a_handler_at_once(box: Boxes) -> None:
    """As PID 1 itself it would not hear TERM at all, and Docker would wait 10 s."""
    running = box(command=["sleep", "1000"])
    running.wait_for_log(SUMMARY)
    assert poll(lambda: "sleep" in running.exec("ps", "-e").stdout, timeout=5)
    assert running.stop() < 2
    assert running.exit_code() == 128 + 15


def test_stop_ends_a_command_that_ignores_it_before_docker_does(box: Boxes) -> None:
    running = box(command=["sh", "-c", "trap '' TERM; echo ready; sleep 1000"])
    running.wait_for_log("ready")
    assert running.stop() < 10  # seconds, `docker stop`'s own patience
    assert running.exit_code() == 128 + 9
    assert "something did not stop in time and is killed" in running.logs()


SAVE_AT_TERM = """
import signal, subprocess, time
worker = subprocess.Popen(["sleep", "1000"])
def save(*_):
    time.sleep(0.3)
    print("worker ended" if worker.poll() else "worker lives")
    raise SystemExit(0)
signal.signal(signal.SIGTERM, save)
print("ready")
while True:
    time.sleep(0.05)
"""


def test_stop_leaves_a_command_its_workers(box: Boxes) -> None:
    """TERM is the command's alone: a training that still saves needs its DataLoader workers."""
    running = box(command=python(SAVE_AT_TERM))
    running.wait_for_log("ready")
    running.stop()
    assert running.exit_code() == 0
    assert "worker lives" in running.logs()


def test_an_interrupt_reaches_what_a_script_runs(box: Boxes) -> None:
    """As Ctrl-C does at a terminal: a shell only acts on it when its program has ended."""
    running = box(command=["sh", "-c", "echo ready; sleep 1000; echo rest"])
    running.wait_for_log("ready")
    assert poll(lambda: "sleep" in running.exec("ps", "-e").stdout, timeout=5)
    running.kill("INT")
    assert running.wait(timeout=5) == 128 + 2
    assert "rest" not in running.logs()


def test_a_command_may_go_on_after_an_interrupt(box: Boxes) -> None:
    """It saved, and trains on: only TERM asks a box to end."""
    source = "import signal, time; signal.signal(signal.SIGINT, lambda *_: print('saved'))\n"
    running = box(command=python(source + "print('ready')\nwhile True: time.sleep(0.05)"))
    running.wait_for_log("ready")
    running.kill("INT")
    running.wait_for_log("saved")
    ended = poll(lambda: not running.is_running(), timeout=9, interval=0.5)
    assert not ended, running.logs()


def test_stop_before_the_command_starts(box: Boxes) -> None:
    """While the driver is still being asked."""
    env = {**HUNG, "LAUNCHER_DETECT_TIMEOUT": "60"}
    running = box(*GPUS, command=["echo", "started"], env=env)
    running.wait_for_log("still asking", timeout=10)
    assert running.stop() < 3
    assert running.exit_code() == 128 + 15
    assert "started" not in running.logs()


# --- what it leaves behind --------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_orphans_of_the_command_are_told_to_end(box: Boxes, options: Sequence[str]) -> None:
    """Told, not just killed with the container: what it wrote on TERM is in the output."""
    orphan = "trap 'echo the orphan ends; exit' TERM; echo > up; while :; do sleep 0.1; done"
    script = f'mkfifo up; setsid sh -c "{orphan}" & read x < up; exit 4'
    began = time.monotonic()
    done = box.run("sh", "-c", script, options=[*options, "-w", "/tmp"])
    assert (done.returncode, done.stdout) == (4, b"the orphan ends\n")
    assert time.monotonic() - began < 10


MAKE_ORPHANS = """
import glob, os, time

def zombies():
    count = 0
    for stat in glob.glob("/proc/[0-9]*/stat"):
        try:
            count += open(stat).read().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            pass  # it has been reaped just now
    return count

for _ in range(2000):
    child = os.fork()
    if child == 0:
        os.fork()  # the grandchild loses its parent
        os._exit(0)
    os.waitpid(child, 0)
deadline = time.monotonic() + 10
while (left := zombies()) and time.monotonic() < deadline:
    time.sleep(0.05)
print(left)
"""


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_zombies_are_reaped_while_the_command_runs(box: Boxes, options: Sequence[str]) -> None:
    assert box.run(*python(MAKE_ORPHANS), options=options).stdout == b"0\n"


STOP_AN_ORPHAN = """
import os, signal, time
reader, writer = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan == 0:
        os.setsid()  # as nohup's and tmux's are
        while True:
            time.sleep(60)
    os.write(writer, str(orphan).encode())
    os._exit(0)
os.wait()
pid = int(os.read(reader, 99))
state = lambda: open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
for _ in range(20):
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.02)
    assert state() == "T", state()
print("stays stopped")
"""


def test_an_orphan_that_the_user_stops_stays_stopped(box: Boxes) -> None:
    """`kill -STOP` of a training that lost its shell: the reaper only continues the command."""
    done = box.run(*python(STOP_AN_ORPHAN))
    assert done.stdout == b"stays stopped\n", done.stderr


# --- in a terminal ----------------------------------------------------------------------------


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
    terminal.read_until(SUMMARY.pattern)  # typed earlier, docker's own terminal echoes it too
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


# --- odd boxes --------------------------------------------------------------------------------


def test_a_hung_driver_delays_the_command_no_longer_than_asked(box: Boxes) -> None:
    began = time.monotonic()
    done = box.run("echo", "started", options=GPUS, env=HUNG)
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert "no answer within 2 s" in done.stderr.decode()
    assert 2 <= time.monotonic() - began < 5


def test_a_crashing_driver_library_does_not_take_the_command_along(box: Boxes) -> None:
    done = box.run("echo", "started", options=GPUS, env={"NVSIM_CONTAINER_MACHINE": "crash-init"})
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert "SIGSEGV" in done.stderr.decode()


def test_the_host_s_network(box: Boxes) -> None:
    """A command opens none of the services' ports: one in use on the host is no obstacle."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        done = box.run("echo", "started", options=["--network", "host"], env={"JUPYTER_PORT": port})
    assert (done.returncode, done.stdout) == (0, b"started\n")


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--read-only"], id="read-only"),
        pytest.param(["--cap-drop", "ALL", "--user", "1000"], id="no-capability"),
        pytest.param(["--security-opt", "no-new-privileges"], id="no-new-privileges"),
        pytest.param(["--network", "none"], id="no-network"),
        pytest.param(["--pids-limit", "20"], id="few-processes"),
    ],
)
def test_a_restricted_container_runs_the_command(box: Boxes, options: Sequence[str]) -> None:
    done = box.run("sh", "-c", "echo started as $(id -u)", options=options)
    assert (done.returncode, done.stdout) == (0, b"started as 1000\n")


@pytest.mark.parametrize(
    ("options", "healthy"), [((), False), (GPUS, True)], ids=["no-gpu", "eight-gpus"]
)
def test_doctor_is_a_command(box: Boxes, options: Sequence[str], healthy: bool) -> None:
    done = box.run("launcher", "doctor", options=options)
    assert (done.returncode == 0) == healthy
    said = done.stdout.decode()
    assert said.count("NVIDIA H100 80GB HBM3") == (8 if healthy else 0)
    assert ("fix:" in said) == (not healthy)


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_a_box_with_a_command_is_healthy(box: Boxes, options: Sequence[str]) -> None:
    """There is no service that could be ready: an orchestrator must not restart it."""
    running: Box = box("--health-interval", "1s", *options, command=["sleep", "1000"])
    assert poll(lambda: health(running) != "starting", timeout=20)
    assert health(running) == "healthy"


def health(running: Box) -> str:
    return running.inspect("{{.State.Health.Status}}")


def test_every_machine_description_runs_a_command(box: Boxes) -> None:
    """Lost GPUs, MIG, a mismatch: a degraded machine still starts."""
    degraded = ["h100-8x-one-lost", "a100-mig", "mismatch"]
    for machine in degraded:
        assert driver.find(machine).exists()
        done = box.run("echo", "on", options=GPUS, env={"NVSIM_CONTAINER_MACHINE": machine})
        assert (done.returncode, done.stdout) == (0, b"on\n"), machine
