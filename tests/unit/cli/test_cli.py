"""The command line, in processes of its own, where no box runs and where one left its files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.box.files import write
from launcher.cli.table import COMMANDS
from launcher.model import codec
from launcher.model.host import Account
from launcher.model.machine import Machine
from launcher.model.plan import Identity
from launcher.model.watch import Probe
from launcher.plan.watch import plan_watch
from launcher.render.files import machine_file, plan_file, render, watch_file
from launcher.settings.table import TABLE
from launcher.watch import health
from testing.local_box import LAUNCHER, USER, free_ports, wait_until
from testing.machines import CASES, PASSWORD, TOKEN, Case
from testing.values import replace

pytestmark = pytest.mark.long

H100 = CASES["h100-8x"]

# A job of torchrun's that runs on this machine, some other test's, would be told.
AMONG_NO_OTHERS = ("unshare", "--pid", "--fork", "--mount-proc") if os.geteuid() == 0 else ()

Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `launcher ARGUMENTS…` with a run directory of the test's own."""

    def run(
        *arguments: str, env: dict[str, str] | None = None, below: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*below, *LAUNCHER, *arguments],
            env={
                "PATH": os.environ["PATH"],
                "NB_USER": USER,
                "LAUNCHER_RUN_DIR": str(tmp_path / "run"),
                "LAUNCHER_KEYS_DIR": "/nonexistent",
                **(env or {}),
            },
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
        )

    return run


def on_free_ports() -> dict[str, str]:
    jupyter, ssh = map(str, free_ports(2))
    return {"JUPYTER_PORT": jupyter, "SSH_PORT": ssh}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return the run directory of a box, with the files that it would have."""
    case = Case(H100.machine, {"LAUNCHER_RUN_DIR": str(tmp_path / "run"), "HF_TOKEN": "theirs"})
    plan = case.plan()
    watched = watch_file(plan_watch(plan, case.machine))
    write((*render(plan), machine_file(plan, case.machine), watched))
    return tmp_path / "run"


# --- help ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help(run: Run, golden: Callable[[str, str], None], arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    golden("help.txt", done.stdout)


def test_help_names_every_command_and_fits_80_columns(run: Run) -> None:
    text = run("--help").stdout
    assert all(f"  {name} " in text or f"  {name}\n" in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["stat", "", "--verbose", "\udcff\x1b[31m", "x" * 10_000])
def test_a_command_that_does_not_exist(run: Run, name: str) -> None:
    done = run(name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"launcher: there is no command {name!r}")
    assert "usage:" in done.stderr


# --- settings --------------------------------------------------------------------------------


def test_settings_lists_every_setting_with_its_value_here(run: Run) -> None:
    text = run("settings", env={"JUPYTER_PORT": "9999", "LISTEN_PORT": "2022"}).stdout
    for row in TABLE:
        assert f"\n{row.name} " in f"\n{text}"
        assert row.help in text
    assert "JUPYTER_PORT = '9999' (from JUPYTER_PORT)" in text
    assert "SSH_PORT = '2022' (from LISTEN_PORT)" in text


def test_settings_shows_no_secret(run: Run) -> None:
    text = run("settings", env={"JUPYTER_TOKEN": "s3cret"}).stdout
    assert "s3cret" not in text
    assert "***" in text


# --- where no box runs -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [("banner",), ("url",), ("exec", "--", "true"), ("watch",), ("status",), ("metrics",)],
)
def test_without_a_box_that_is_said(run: Run, command: tuple[str, ...]) -> None:
    done = run(*command, below=AMONG_NO_OTHERS)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("launcher: ")
    assert len(done.stderr.splitlines()) == 1


def test_without_a_box_it_is_not_healthy(run: Run) -> None:
    done = run("healthcheck")
    assert done.returncode == 1
    assert "no health report" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("exec",), 78), (("exec", "--"), 78), (("exec", "a", "b"), 78), (("render",), 2)],
)
def test_usage(run: Run, arguments: tuple[str, ...], code: int) -> None:
    done = run(*arguments)
    assert done.returncode == code
    assert "usage: launcher" in done.stderr


def test_a_service_that_is_not_planned(run: Run) -> None:
    done = run("exec", "jupyter")
    assert done.returncode == 78
    assert "cannot start jupyter" in done.stderr


# --- the stages ------------------------------------------------------------------------------


def test_detect_prints_the_machine(run: Run, simulated) -> None:
    done = run("detect", env=simulated("h100-8x-one-lost"))
    machine = codec.from_json(Machine, done.stdout)
    assert (len(machine.report.gpus), len(machine.report.lost)) == (7, 1)
    assert machine.host.me.name == USER


def test_plan_prints_every_variable_with_its_reason(run: Run, simulated) -> None:
    environ = {**simulated("rtx3090-2x-nvlink"), **on_free_ports()}
    plan = json.loads(run("plan", env=environ).stdout)
    variables = {var["name"]: var for var in plan["environment"]}
    assert variables["CUDA_VISIBLE_DEVICES"]["value"] == "0,1"
    assert all(var["why"] for var in plan["environment"])


def test_a_bad_setting_is_said_by_every_stage(run: Run) -> None:
    for stage in ("detect", "plan", "doctor"):
        done = run(stage, env={"SSH_PORT": "banana"})
        assert done.returncode == 78
        assert "SSH_PORT='banana'" in done.stderr


def test_render_writes_what_the_services_would_read(run: Run, tmp_path: Path, simulated) -> None:
    environ = {**simulated("rtx4090-1x"), **on_free_ports()}
    done = run("render", str(tmp_path / "out"), env=environ)
    assert (done.returncode, done.stderr) == (0, "")
    below = tmp_path / "out" / str(tmp_path / "run").lstrip("/")
    for script in ("environment.sh", "login.sh", "user/environment.sh", "user/login.sh"):
        assert "export CUDA_VISIBLE_DEVICES=0" in (below / script).read_text()
    assert json.loads((below / "services" / "jupyter.json").read_text())["name"] == "jupyter"
    assert not (tmp_path / "run").exists()


# --- beside a box ----------------------------------------------------------------------------


def test_the_running_plan_is_printed_without_its_secrets(run: Run, files: Path) -> None:
    done = run("plan")
    assert json.loads(done.stdout)["devices"] == 8
    assert TOKEN not in done.stdout
    assert PASSWORD not in done.stdout


def test_the_url_alone(run: Run, files: Path) -> None:
    assert run("url").stdout == f"http://127.0.0.1:8888/lab?token={TOKEN}\n"


def test_the_banner_is_the_one_that_was_printed(run: Run, files: Path) -> None:
    (files / "banner").write_text("═ it ═\n")
    assert run("banner").stdout == "═ it ═\n"


def test_a_report_of_watch_is_judged(run: Run, files: Path) -> None:
    health.write_health(f"{files}/health.json", 1.0, [Probe("jupyter", True, "answers")])
    assert run("healthcheck").returncode == 0
    health.write_health(f"{files}/health.json", 1.0, [Probe("jupyter", False, "refused")])
    done = run("healthcheck")
    assert (done.returncode, done.stdout) == (1, "jupyter: refused\n")


def test_status_ends_as_the_health_check_does(run: Run, files: Path) -> None:
    assert run("status").stdout.startswith("starting: ")
    health.write_health(f"{files}/health.json", 1.0, [Probe("jupyter", True, "answers")])
    done = run("status")
    assert (done.returncode, done.stdout.partition(",")[0]) == (0, "healthy")
    health.write_health(f"{files}/health.json", 1.0, [Probe("jupyter", False, "refused")])
    done = run("status", "--json")
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "jupyter: refused")
    assert run("status", "--yaml").returncode == 2


def test_metrics_are_of_the_box_and_its_gpus(run: Run, files: Path, simulated) -> None:
    driver = simulated("h100-8x-one-lost")
    given = {"LAUNCHER_RUN_DIR": str(files), "LAUNCHER_PYTHON": sys.executable, **driver}
    case = Case(H100.machine, given)
    me = Account("me", os.getuid(), os.getgid(), "/", "/bin/sh")
    write([plan_file(replace(case.plan(), identity=Identity(me, "a test")))])
    probes = [Probe("jupyter", True, "answers")]
    health.write_health(
        f"{files}/health.json", 1.0, probes, counts={"ready_after": 1.5, "memory_kills": 2}
    )
    done = run("metrics")
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "launcher_healthy 1.0", "launcher_ready_seconds 1.5", "launcher_memory_kills_total 2.0",
        "launcher_gpus_visible 8.0", "launcher_gpus 7.0", "launcher_gpus_lost 1.0",
        'launcher_service_ready{service="jupyter"} 1.0',
    ):  # fmt: skip
        assert f"\n{line}\n" in done.stdout
    assert 'launcher_filesystem_free_bytes{path="/dev/shm"}' in done.stdout
    assert "DCGM_FI_DEV_GPU_TEMP{" in done.stdout
    told = json.loads(run("metrics", "--json").stdout)
    assert (told["healthy"], told["devices"], told["ready_after"]) == (True, 8, 1.5)
    assert told["limits"]["memory"] > 1 << 20
    assert "GiB memory" in told["limits"]["text"]
    assert "gpus" not in told


@pytest.mark.parametrize(
    ("command", "name", "content"),
    [
        *(
            (command, name, content)
            for command, name in ((("url",), "plan.json"), (("watch",), "watch.json"))
            for content in ("", "{", "[]", "null", "{}", '{"paths": 3}', "\udcff")
        ),
        *((command, "plan.json", "{}") for command in (("plan",), ("exec", "--", "true"))),
    ],
)
def test_a_file_that_cannot_be_read_is_no_traceback(
    run: Run, files: Path, command, name, content
) -> None:
    (files / name).write_text(content, errors="surrogateescape")
    done = run(*command)
    assert done.returncode == 78
    assert name in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_traceback(run: Run, files: Path) -> None:
    shell = f"{' '.join(LAUNCHER)} plan | true"
    env = {"PATH": os.environ["PATH"], "LAUNCHER_RUN_DIR": str(files)}
    done = subprocess.run(["sh", "-c", shell], env=env, capture_output=True, text=True)
    assert done.stderr == ""


# --- exec -- CMD -----------------------------------------------------------------------------


@pytest.fixture
def as_me(tmp_path: Path) -> Path:
    """Return the run directory of a box whose user is whoever runs the test."""
    me = Account(USER, os.geteuid(), os.getegid(), "/", "/bin/sh", tuple(os.getgroups()))
    case = Case(H100.machine, {"LAUNCHER_RUN_DIR": str(tmp_path / "run"), "NASTY": "'\"\n\udcff"})
    write(render(replace(case.plan(), identity=Identity(me, "a test"))))
    return tmp_path / "run"


def test_a_command_gets_the_planned_environment_and_no_secret(run: Run, as_me: Path) -> None:
    done = run("exec", "--", "env", "-0", env={"JUPYTER_TOKEN": "s3cret", "TERM": "xterm"})
    seen = dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)
    assert seen["CUDA_VISIBLE_DEVICES"] == "0,1,2,3,4,5,6,7"
    assert seen["NASTY"] == "'\"\n\udcff"
    assert seen["TERM"] == "xterm"  # of the terminal that it was called from
    assert "JUPYTER_TOKEN" not in seen


@pytest.mark.parametrize(
    ("command", "code"),
    [(("true",), 0), (("sh", "-c", "exit 7"), 7), (("no-such",), 127), (("/etc/passwd",), 126)],
)
def test_a_commands_status_is_ours(run: Run, as_me: Path, command, code: int) -> None:
    done = run("exec", "--", *command)
    assert done.returncode == code
    assert (f"cannot run {command[0]!r}" in done.stderr) == (code in (126, 127))


def test_a_commands_arguments_are_its_own(run: Run, as_me: Path) -> None:
    assert run("exec", "--", "printf", "%s.", "--", "-x", "a b").stdout == "--.-x.a b."


# --- a signal while something slow is waited for -----------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
@pytest.mark.parametrize(
    ("command", "machine", "faults", "waiting"),
    [
        pytest.param("doctor", "rtx4090-1x", {"cuInit": "hang"}, "doctor: ", id="doctor-cuda"),
        *(
            pytest.param(command, "hung-init", {}, "still asking", id=command)
            for command in ("doctor", "topo", "record", "detect", "plan")
        ),
    ],
)
def test_it_ends_at_once_and_without_a_traceback(
    simulated, tmp_path: Path, command: str, machine: str, faults, waiting: str, number: int
) -> None:
    environ = simulated(machine, {"faults": faults} if faults else {})
    mark = f"mark-{uuid.uuid4()}"
    environ |= {"PATH": os.environ["PATH"], "LAUNCHER_RUN_DIR": str(tmp_path), "MARK": mark}
    log = tmp_path / "log"
    with log.open("wb") as out:
        running = subprocess.Popen([*LAUNCHER, command], env=environ, cwd="/", stderr=out)
    wait_until(lambda: waiting in log.read_text(), log.read_text)
    running.send_signal(number)
    assert running.wait(10) == 128 + number
    assert "Traceback" not in log.read_text()
    wait_until(lambda: not marked(mark), lambda: f"left: {marked(mark)}")


def marked(mark: str) -> list[str]:
    """Return the processes that have this in their environment."""
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdecimal() and mark.encode() in (path / "environ").read_bytes():
                found.append(path.name)
    return found
