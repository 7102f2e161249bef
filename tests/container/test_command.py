"""`docker run IMAGE CMD…`: the user's command, as if the launcher were not there."""

from __future__ import annotations

import hashlib
import json
import random
import re
import socket
import time
from collections.abc import Sequence

import pytest

from sim import driver
from testing.container.box import Box, Boxes
from testing.container.engine import poll

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
        pytest.param(["/etc/passwd"], 126, id="not-executable"),
        pytest.param(["no-such-program"], 127, id="not-found"),
        pytest.param(["sh", "-c", "kill -9 $$"], 128 + 9, id="killed"),
    ],
)
def test_exit_code(box: Boxes, command: Sequence[str], code: int) -> None:
    """The command's own status; else what a shell would have returned, and why.

    All of them are tried in tests/unit/pid1/test_command.py, on this machine.
    """
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
    assert done.stdout.decode().split() == ["12345", "0", "/tmp/launcher-12345/home"]


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


# --- odd boxes --------------------------------------------------------------------------------


def test_a_hung_driver_delays_the_command_no_longer_than_asked(box: Boxes) -> None:
    began = time.monotonic()
    done = box.run("echo", "started", options=GPUS, env=HUNG)
    assert (done.returncode, done.stdout) == (0, b"started\n")
    assert "no answer within 2 s" in done.stderr.decode()
    assert 2 <= time.monotonic() - began < 30  # and not for ever


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
    ("options", "status", "said"),
    [((), 11, "hardware.none (failed)"), (GPUS, 0, "8 × NVIDIA H100 80GB HBM3")],
    ids=["no-gpu", "eight-gpus"],
)
def test_doctor_is_a_command(box: Boxes, options: Sequence[str], status: int, said: str) -> None:
    # The simulated driver computes nothing, so what PyTorch does is left out.
    done = box.run("launcher", "doctor", "hardware", "driver", "runtime", "cuda", options=options)
    assert done.returncode == status
    assert said in done.stdout.decode()


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["pid-1", "docker-init"])
def test_a_box_with_a_command_is_healthy(box: Boxes, options: Sequence[str]) -> None:
    """There is no service that could be ready: an orchestrator must not restart it."""
    running: Box = box("--health-interval", "1s", *options, command=["sleep", "1000"])
    assert poll(lambda: health(running) != "starting", timeout=20)
    assert health(running) == "healthy"


def health(running: Box) -> str:
    return running.health()


def test_every_machine_description_runs_a_command(box: Boxes) -> None:
    """Lost GPUs, MIG, a mismatch: a degraded machine still starts."""
    degraded = ["h100-8x-one-lost", "a100-mig", "mismatch"]
    for machine in degraded:
        assert driver.find(machine).exists()
        done = box.run("echo", "on", options=GPUS, env={"NVSIM_CONTAINER_MACHINE": machine})
        assert (done.returncode, done.stdout) == (0, b"on\n"), machine
