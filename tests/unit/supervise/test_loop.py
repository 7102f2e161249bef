"""Supervisor's internals that we subclass are as we found them, and ours do what theirs do not.

supervise itself is met running in test_box, and in real containers.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from supervisor import events, loggers, poller, process, rpcinterface
from supervisor.dispatchers import POutputDispatcher
from supervisor.options import Options, ProcessConfig, ServerOptions
from supervisor.process import Subprocess
from supervisor.states import ProcessStates, SupervisorStates
from supervisor.supervisord import Supervisor

from launcher.model.errors import BadSetting
from launcher.model.plan import Supervision
from launcher.supervise import loop as supervise_loop
from launcher.supervise import options as supervise_options
from launcher.supervise import output, programs
from launcher.supervise import program as supervise_program
from launcher.supervise.options import BoxOptions
from launcher.supervise.output import BoxDispatcher
from launcher.supervise.said import Log
from tests.unit.process.test_pump import read_all

ROOT = Path(__file__).parents[3]

# What ours override: the signatures of supervisor 4.3.0.
OVERRIDDEN = {
    (poller.PollPoller, "initialize"): "(self)",
    (poller.PollPoller, "poll"): "(self, timeout)",
    (POutputDispatcher, "_init_normallog"): "(self)",
    (POutputDispatcher, "_log"): "(self, data)",
    (POutputDispatcher, "close"): "(self)",
    (ProcessConfig, "make_dispatchers"): "(self, proc)",
    (ProcessConfig, "make_process"): "(self, group=None)",
    (Subprocess, "get_execv_args"): "(self)",
    (Subprocess, "spawn"): "(self)",
    (Subprocess, "_spawn_as_child"): "(self, filename, argv)",
    (Subprocess, "transition"): "(self)",
    (Subprocess, "_check_and_adjust_for_system_clock_rollback"): "(self, test_time)",
    (Subprocess, "kill"): "(self, sig)",
    (Subprocess, "finish"): "(self, pid, sts)",
    (Subprocess, "give_up"): "(self)",
    (Subprocess, "change_state"): "(self, new_state, expected=True)",
    (loggers.Handler, "__init__"): "(self, stream=None)",
    (loggers.Handler, "emit"): "(self, record)",
    (Options, "usage"): "(self, msg)",
    (ServerOptions, "__init__"): "(self)",
    (ServerOptions, "process_groups_from_parser"): "(self, parser)",
    (ServerOptions, "processes_from_section"):
        "(self, parser, section, group_name, klass=None)",
    (ServerOptions, "make_logger"): "(self)",
    (ServerOptions, "set_rlimits_or_exit"): "(self)",
    (ServerOptions, "execve"): "(self, filename, argv, env)",
    (Supervisor, "ordered_stop_groups_phase_1"): "(self)",
    (Supervisor, "tick"): "(self, now=None)",
    (Supervisor, "handle_signal"): "(self)",
}  # fmt: skip

# What ours call or rely on.
USED = {
    (Supervisor, "__init__"): "(self, options)",
    (Supervisor, "main"): "(self)",
    (Supervisor, "runforever"): "(self)",
    (Supervisor, "add_process_group"): "(self, config)",
    (Supervisor, "shutdown_report"): "(self)",
    (ServerOptions, "set_uid_or_exit"): "(self)",
    (ServerOptions, "realize"): "(self, *arg, **kw)",
    (ServerOptions, "close_httpservers"): "(self)",
    (ServerOptions, "get_signal"): "(self)",
    (POutputDispatcher, "__init__"): "(self, process, event_type, fd)",
    (Subprocess, "signal"): "(self, sig)",
    (loggers.Handler, "handleError"): "(self)",
}

OURS = (
    supervise_loop.BoxPoller,
    supervise_loop.BoxSupervisor,
    supervise_options.BoxProcessConfig,
    supervise_options.BoxOptions,
    supervise_program.BoxProcess,
    output.BoxDispatcher,
    output.PumpHandler,
)


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("supervisor") == "4.3.0"
    pinned = [line for line in requires("pytorch-cuda-launcher") or () if "supervisor" in line]
    assert pinned == ["supervisor==4.3.0"]


@pytest.mark.parametrize(
    ("where", "signature"),
    [*OVERRIDDEN.items(), *USED.items()],
    ids=[f"{kind.__name__}.{name}" for kind, name in (*OVERRIDDEN, *USED)],
)
def test_the_internals_have_not_moved(where: tuple[type, str], signature: str) -> None:
    kind, name = where
    assert str(inspect.signature(getattr(kind, name))) == signature


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_every_override_is_in_the_table(kind: type) -> None:
    base = next(each for each in kind.__mro__ if each.__module__.startswith("supervisor."))
    of_ours = [each for each in kind.__mro__ if each.__module__.startswith("launcher.")]
    overridden = {
        name
        for each in of_ours
        for name, value in vars(each).items()
        if inspect.isfunction(value) and name in dir(base) and hasattr(base, name)
    }
    listed = {name for where, name in OVERRIDDEN if issubclass(base, where)}
    assert overridden == listed
    for name in overridden - {"__init__"}:
        ours, theirs = (inspect.signature(getattr(each, name)) for each in (kind, base))
        assert list(ours.parameters) == list(theirs.parameters)


def test_the_loop_asks_the_poller_as_we_think() -> None:
    # Ours returns at once the first time, since the stock loop polls before its first spawn.
    loop = inspect.getsource(Supervisor.runforever)
    assert "self.options.poller.poll(timeout)" in loop
    assert "self.handle_signal()" in loop
    assert loop.index("poller.poll(timeout)") < loop.index("group.transition()")


def test_what_we_read_of_theirs_is_still_there() -> None:
    options = ServerOptions()
    assert {"poller", "parse_warnings"} <= vars(options).keys()
    assert "self.options.mood" in inspect.getsource(Supervisor)
    assert {"READ", "WRITE", "_poller"} <= vars(poller.PollPoller(options)).keys()
    assert SupervisorStates.SHUTDOWN < SupervisorStates.RUNNING
    assert issubclass(events.ProcessStateFatalEvent, events.ProcessStateEvent)
    assert Subprocess.spawnerr is None
    assert "options.execve(filename, argv, env)" in inspect.getsource(Subprocess._spawn_as_child)
    assert "self.environ_expansions" in inspect.getsource(ServerOptions.read_config)
    assert "self.usage(str(msg))" in inspect.getsource(ServerOptions.process_config_file)
    assert "for group in pgroups:\n                group.transition()" in inspect.getsource(
        Supervisor.runforever
    )
    assert "self.tick()" in inspect.getsource(Supervisor.runforever)


@pytest.mark.parametrize("module", [process, rpcinterface], ids=lambda module: module.__name__)
def test_the_clock_has_all_that_supervisor_asks_of_one(module) -> None:
    asked = set(re.findall(r"\btime\.(\w+)", inspect.getsource(module)))
    assert module.time is supervise_program.CLOCK
    assert asked
    assert all(hasattr(supervise_program.CLOCK, name) for name in asked)


# --- ours ------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


Make = Callable[..., BoxOptions]
DEFAULTS = Supervision()


@pytest.fixture
def make(tmp_path: Path, pipe, monkeypatch) -> Iterator[Make]:
    """Make options with these files in supervisor.d: NAME="text of NAME.conf"."""
    monkeypatch.setenv("LAUNCHER_RUN_DIR", str(tmp_path))
    (tmp_path / "log").mkdir()
    (tmp_path / "more").mkdir()

    def made(supervision: Supervision = DEFAULTS, **files: str) -> BoxOptions:
        for name, text in files.items():
            (tmp_path / "more" / f"{name}.conf").write_text(text)
        options = BoxOptions(
            str(tmp_path), {"sshd", "watch"}, supervision, Log(pipe[1]), f"{tmp_path}/more"
        )
        options.poller = supervise_loop.BoxPoller(options)
        options.realize(["-c", str(ROOT / "supervisord.conf")])
        options.make_logger()
        return options

    yield made
    signal.set_wakeup_fd(-1)


@pytest.fixture
def options(make: Make) -> BoxOptions:
    return make()


def groups(options: BoxOptions) -> dict[str, set[str]]:
    return {
        group.name: {program.name for program in group.process_configs}
        for group in options.process_group_configs
    }


def config(options: BoxOptions, name: str):
    every = [each for group in options.process_group_configs for each in group.process_configs]
    return next(each for each in every if each.name == name)


def test_only_what_is_planned_is_started(options: BoxOptions) -> None:
    assert groups(options) == {"box": {"sshd", "watch"}}


def test_every_program_stops_before_docker_loses_patience(options) -> None:
    (group,) = options.process_group_configs
    assert all(program.stopwaitsecs < 8 for program in group.process_configs)
    assert all(program.killasgroup for program in group.process_configs)


# --- supervisor.d ----------------------------------------------------------------------------

TWO = {"mine": "[program:mine]\ncommand=/bin/cat\n", "yours": "[program:yours]\ncommand=cat\n"}


@pytest.mark.parametrize(
    ("supervision", "added"),
    [
        (Supervision(), {"mine", "yours"}),
        (Supervision(programs=("jupyter", "mine")), {"mine"}),
        (Supervision(programs=("jupyter",)), set()),
        (Supervision(safe_mode=True), set()),
    ],
    ids=["all", "one", "none", "safe"],
)
def test_which_programs_of_others_are_started(make: Make, supervision, added) -> None:
    assert groups(make(supervision, **TWO)).keys() - {"box"} == added


def test_safe_mode_does_not_even_read_them(make: Make) -> None:
    make(Supervision(safe_mode=True), broken="nonsense")
    with pytest.raises(BadSetting, match=r"broken\.conf"):
        make(broken="nonsense")


@pytest.mark.parametrize(
    ("more", "for_the_user"),
    [("", True), ("user=root", False), ("user=nobody", False)],
)
def test_as_whom_a_program_runs(make: Make, more: str, for_the_user: bool) -> None:
    made = make(mine=f"[program:mine]\ncommand=cat\n{more}\n")
    assert config(made, "mine").for_the_user is for_the_user
    assert not config(made, "sshd").for_the_user  # `launcher exec` says as whom


def test_root_may_ask_for_the_workspace_user(make: Make) -> None:
    made = make(mine="[program:mine]\nuser=root\ncommand=launcher exec -- echo 'a b'\n")
    program = config(made, "mine").make_process()
    assert program.config.for_the_user
    assert program.get_execv_args() == ("echo", ["echo", "a b"])


@pytest.mark.parametrize(
    ("more", "shown", "files"),
    [
        ("", ("stdout",), ("{run}/log/mine.log", None)),
        ("stdout_logfile=/dev/stdout", ("stdout",), ("{run}/log/mine.log", None)),
        ("stdout_logfile=/tmp/x", ("stderr",), ("/tmp/x", "{run}/log/mine.log")),
        ("stderr_logfile=/tmp/x", ("stdout",), ("{run}/log/mine.log", "/tmp/x")),
        ("redirect_stderr=true\nstdout_logfile=/tmp/x", (), ("/tmp/x", None)),
        ("stdout_logfile=NONE\nstderr_logfile=NONE", (), (None, None)),
    ],
)
def test_where_a_programs_output_goes(make: Make, tmp_path: Path, more, shown, files) -> None:
    program = config(make(mine=f"[program:mine]\ncommand=cat\n{more}\n"), "mine")
    expected = tuple(path and path.format(run=tmp_path) for path in files)
    assert program.shown == shown
    assert (program.stdout_logfile, program.stderr_logfile) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[program:mine]\n", "does not specify a command"),
        ("[program:mine]\ncommand=cat\nstartsecs=soon\n", "soon"),
        ("[program:mine]\ncommand=cat\nuser=martian\n", "martian"),
        ("[program:mine]\ncommand=echo %(nothing)s\n", "nothing"),
    ],
)
def test_what_supervisor_refuses_is_a_bad_setting(make: Make, text: str, said: str) -> None:
    with pytest.raises(BadSetting, match=r"more/mine\.conf: \[program:mine\]") as refused:
        make(mine=text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_nobody_takes_longer_to_stop_than_pid_1_waits(make: Make) -> None:
    slow = "[program:mine]\ncommand=cat\nstopwaitsecs=600\n"
    assert 6 < config(make(mine=slow), "mine").stopwaitsecs < 8
    patient = make(Supervision(stop_timeout=300.0), mine=slow)
    assert 290 < config(patient, "mine").stopwaitsecs < 300


def test_nothing_listens_but_a_socket_that_is_roots(options, tmp_path: Path) -> None:
    servers = options.server_configs
    assert [server["section"] for server in servers] == ["unix_http_server"]
    assert servers[0]["file"] == f"{tmp_path}/supervisor.sock"
    assert servers[0]["chmod"] == 0o700


def test_nothing_of_a_users_passes_through_the_parser() -> None:
    # It expands % and cuts at " ;": the file has two variables, and they are ours.
    text = (ROOT / "supervisord.conf").read_text()
    assert set(re.findall(r"%\((\w+)\)", text)) == {"ENV_LAUNCHER_RUN_DIR", "ENV_LAUNCHER_PROGRAMS"}
    assert "environment=" not in text


class Program:
    """As much of supervisor's process as a dispatcher asks for."""

    def __init__(self, options: BoxOptions, name: str, path: Path) -> None:
        self.config = type("Config", (), {
            "name": name, "options": options, "redirect_stderr": True, "stdout_logfile": str(path),
            "stdout_logfile_maxbytes": 0, "stdout_logfile_backups": 0, "stdout_syslog": False,
            "stdout_capture_maxbytes": 0, "stdout_events_enabled": False,
            "stderr_events_enabled": False,
        })()  # fmt: skip
        self.pid = 1
        self.group = None
        self.own_hup = ""


@pytest.fixture
def dispatcher(options, tmp_path: Path, request: pytest.FixtureRequest) -> BoxDispatcher:
    program = Program(options, getattr(request, "param", "sshd"), tmp_path / "log" / "x.log")
    event = events.ProcessCommunicationStdoutEvent
    return BoxDispatcher(program, event, -1)


def test_a_programs_output_is_whole_lines_with_its_name(dispatcher, pipe) -> None:
    dispatcher._log(b"one\ntw")
    assert read_all(pipe[0]) == b"sshd | one\n"
    dispatcher._log(b"o\nthree\n")
    assert read_all(pipe[0]) == b"sshd | two\nsshd | three\n"


ANEW = b"Received SIGHUP; restarting.\r\n"
LISTENS = b"Server listening on 0.0.0.0 port 22.\r\nServer listening on :: port 22.\r\n"


@pytest.mark.parametrize(
    "chunks", [[ANEW + LISTENS], [ANEW, LISTENS], [ANEW, *LISTENS.splitlines(keepends=True)]]
)
def test_a_hup_that_nobody_asked_for_is_not_in_the_log(dispatcher, pipe, chunks) -> None:
    dispatcher._log(LISTENS)
    read_all(pipe[0])
    dispatcher.process.own_hup = "sent"
    dispatcher._log(b"Accepted publickey for dev\n")
    for chunk in chunks:
        dispatcher._log(chunk)
    dispatcher._log(b"Accepted publickey for bob\n")
    assert read_all(pipe[0]) == (
        b"sshd | Accepted publickey for dev\nsshd | Accepted publickey for bob\n"
    )
    dispatcher._log(ANEW + LISTENS)  # somebody's
    assert read_all(pipe[0]).count(b"\n") == 3


def test_the_last_words_need_no_line_break(dispatcher, pipe) -> None:
    dispatcher._log(b"the end")
    assert read_all(pipe[0]) == b""
    dispatcher.close()
    assert read_all(pipe[0]) == b"sshd | the end\n"


def test_a_line_without_end_does_not_fill_the_memory(dispatcher, pipe) -> None:
    received = b""
    for _ in range(100):
        dispatcher._log(b"x" * 1000)
        assert len(dispatcher._partial) <= 17_000
        received += read_all(pipe[0])
    assert received.count(b"\n") >= 5


@pytest.mark.parametrize("dispatcher", ["watch"], indirect=True)
def test_watch_speaks_for_the_launcher_itself(dispatcher, pipe) -> None:
    dispatcher._log("═ banner ═\n".encode())
    assert read_all(pipe[0]).decode() == "═ banner ═\n"


def test_output_is_kept_in_a_file_for_the_last_lines(dispatcher, tmp_path: Path, pipe) -> None:
    dispatcher._log(b"one\n")
    assert (tmp_path / "log" / "x.log").read_bytes() == b"one\n"


def test_a_log_file_that_cannot_be_written_harms_nobody(options, tmp_path, pipe, capsys) -> None:
    program = Program(options, "sshd", Path("/dev/full"))
    full = BoxDispatcher(program, events.ProcessCommunicationStdoutEvent, -1)
    full._log(b"one\n")
    program.config.stdout_logfile = f"{tmp_path}/no/such/folder/x.log"
    nowhere = BoxDispatcher(program, events.ProcessCommunicationStdoutEvent, -1)
    nowhere._log(b"two\n")
    assert read_all(pipe[0]) == b"sshd | one\nsshd | two\n"
    assert capsys.readouterr().err == ""


def test_supervisors_own_words_go_to_the_same_log(options, pipe) -> None:
    options.logger.critical("something happened")
    options.logger.warn("exited: sshd (exit status 1; not expected)")  # which we say ourselves
    assert read_all(pipe[0]) == b"launcher: something happened\n"


# --- one program, from its start to its end --------------------------------------------------


class Box:
    """A supervisor with one program, turned by hand; the clock too."""

    def __init__(self, make: Make, section: str, **supervision) -> None:
        self.options = make(Supervision(**supervision), mine=f"[program:mine]\n{section}")
        self.supervisor = supervise_loop.BoxSupervisor(self.options)
        self.supervisor.process_groups = {}
        configs = self.options.process_group_configs
        self.supervisor.add_process_group(next(each for each in configs if each.name == "mine"))
        self.process = self.supervisor.process_groups["mine"].processes["mine"]

    def turn_until(self, *states: int) -> None:
        deadline = time.monotonic() + 20
        while self.process.state not in states and time.monotonic() < deadline:
            self.turn()
        assert self.process.state in states, self.process

    def turn(self) -> None:
        self.process.transition()
        self.supervisor.reap()
        self.supervisor.tick()

    def end(self) -> None:
        if self.process.pid:
            self.process.kill(signal.SIGKILL)
            self.turn_until(ProcessStates.STOPPED)


@pytest.fixture
def box(make: Make, monkeypatch) -> Iterator[Callable[..., Box]]:
    made: list[Box] = []

    def start(section: str, **supervision) -> Box:
        made.append(Box(make, f"user={os.getuid()}\n{section}", **supervision))
        return made[-1]

    yield start
    for each in made:
        each.end()


FAILS = "command=/bin/sh -c 'echo why it fails; exit 3'\n"


def test_a_program_that_cannot_start_is_given_up_and_says_why(box, pipe) -> None:
    started = box(f"{FAILS}startsecs=5\nstartretries=2\n", restart_delay=0.05)
    started.turn_until(ProcessStates.FATAL)
    said = read_all(pipe[0]).decode().splitlines()
    line = "launcher: mine ended after 0 s (exit status 3); it is started again"
    assert [text for text in said if text.startswith(line)] == [
        f"{line} at once",
        f"{line} in 0.05 s",
    ]
    assert (
        said[-3:]
        == [
            "launcher: mine failed for good (exit status 3), and the box goes on without it. "
            "Its last lines:",
            *["    why it fails"] * 3,
            "launcher: to start mine again: launcher restart mine",
        ][-3:]
    )
    assert started.options.mood == SupervisorStates.RUNNING


def test_what_a_program_says_of_its_failure_is_shown(box, pipe) -> None:
    section = "command=sh -c 'echo oops >&2; exit 3'\nstartretries=0\n"
    box(section).turn_until(ProcessStates.FATAL)
    said = read_all(pipe[0]).decode()
    assert "mine | oops\n" in said
    assert "launcher: mine failed for good (exit status 3), and the box goes on" in said
    assert "    oops\n" in said


def test_supervise_stays_who_it_is(options) -> None:
    """Neither root nor anybody else is told to become another, nor warned of being root."""
    before = os.getresuid()
    options.set_uid_or_exit()
    options.make_logger()
    assert options.uid is None
    assert os.getresuid() == before


def test_nothing_is_said_of_being_root(options, pipe) -> None:
    options.set_uid_or_exit()
    options.make_logger()
    assert read_all(pipe[0]) == b""


def test_what_has_not_stopped_yet_is_not_said(box, pipe) -> None:
    started = box("command=sleep 60\nstartsecs=0\n")
    started.turn_until(ProcessStates.RUNNING)
    assert started.supervisor.shutdown_report() == [started.process]
    assert read_all(pipe[0]) == b""


def test_a_required_program_ends_the_box(box, pipe) -> None:
    started = box(f"{FAILS}startsecs=5\nstartretries=0\n", required=("mine",))
    started.turn_until(ProcessStates.FATAL)
    assert "launcher: mine failed for good (exit status 3), so the container ends" in (
        read_all(pipe[0]).decode()
    )
    assert started.options.exit_code == 70
    assert started.options.mood == SupervisorStates.SHUTDOWN


@pytest.mark.parametrize("startsecs", [0, 5])  # it has run, or ended too early
@pytest.mark.parametrize("required", [("mine",), ()])
def test_a_jupyter_that_is_not_there_is_tried_once(box, pipe, startsecs, required) -> None:
    section = "command=/bin/sh -c 'echo fix: install it; exit 78'\nstartretries=3\n"
    started = box(f"{section}autorestart=true\nstartsecs={startsecs}\n", required=required)
    started.process.config.name = "jupyter"
    started.turn_until(ProcessStates.FATAL, ProcessStates.EXITED)
    for _ in range(20):
        started.turn()
    assert started.process.starts == 1
    said = read_all(pipe[0]).decode()
    assert said.count("fix: install it") == 1
    assert started.options.exit_code == (78 if required else 0)
    assert ("as it says above, so the container ends" in said) == bool(required)
    stopping = started.options.mood == SupervisorStates.SHUTDOWN
    assert stopping == bool(required)


def test_another_program_s_78_is_a_failure_like_others(box, pipe) -> None:
    started = box("command=/bin/sh -c 'exit 78'\nstartretries=1\nstartsecs=5\n", restart_delay=0.05)
    started.turn_until(ProcessStates.FATAL)
    assert started.process.starts == 2
    assert "failed for good (exit status 78)" in read_all(pipe[0]).decode()


def test_what_supervise_cannot_do_is_said_in_the_place_s_words(make: Make) -> None:
    said = "no more processes and threads are allowed here: docker run --pids-limit=-1 …"
    assert make().fitted(said) == said
    assert "TasksMax=" in make(Supervision(place="plain")).fitted(said)


def test_one_that_is_not_there_says_so(box, pipe) -> None:
    box("command=/no/such/program\nstartretries=0\n").turn_until(ProcessStates.FATAL)
    said = "launcher: mine failed for good (can't find command '/no/such/program')"
    assert said in read_all(pipe[0]).decode()


@pytest.mark.parametrize(
    ("section", "required", "said", "code"),
    [
        ("command=true", (), "mine ended after 0 s (exit status 0); it is not started again", 0),
        (FAILS, (), "mine ended after 0 s (exit status 3); it is not started again", 0),
        (FAILS, ("mine",), "mine failed for good (exit status 3), so the container ends", 70),
    ],
)
def test_one_that_is_not_to_be_started_again(box, pipe, section, required, said, code) -> None:
    started = box(f"{section}\nstartsecs=0\nautorestart=false\n", required=required)
    started.turn_until(ProcessStates.EXITED)
    told = re.sub(r"after \d s", "after 0 s", read_all(pipe[0]).decode())  # on a busy machine
    assert f"launcher: {said}" in told
    assert started.options.exit_code == code
    assert started.process.program().state == "ended"
    assert started.process.due() == float("inf"), "the loop would spin"


def test_restarts_wait_and_are_told_sparingly_and_leak_nothing(box, pipe) -> None:
    started = box(f"{FAILS}startsecs=0\nautorestart=true\n", restart_delay=0.01)
    started.turn_until(ProcessStates.EXITED)
    fds = len(os.listdir("/proc/self/fd"))
    said = b""
    while started.process.starts < 31:
        started.turn()
        said += read_all(pipe[0])
    started.turn_until(ProcessStates.EXITED)
    said += read_all(pipe[0])
    told = re.findall(r"mine ended .*", said.decode())
    assert len(told) == 8, told  # 1 to 5, 10, 20, 30
    assert len(os.listdir("/proc/self/fd")) <= fds
    assert started.options.pidhistory == {}


def test_last_words_are_shown_though_a_child_still_has_the_pipe(box, pipe) -> None:
    started = box("command=sh -c 'sleep 5 & printf half'\nstartsecs=0\nautorestart=false\n")
    started.turn_until(ProcessStates.EXITED)
    assert "mine | half\n" in read_all(pipe[0]).decode()


def test_a_person_who_starts_it_starts_afresh(box) -> None:
    started = box(f"{FAILS}startsecs=0\nautorestart=true\n", restart_delay=100.0)
    started.turn_until(ProcessStates.EXITED)
    while started.process.ends < 2:
        started.turn()
    assert started.process.program().state == "waiting"
    assert 0 < started.process.due() <= 1
    for _ in range(20):
        started.turn()
    assert (started.process.starts, started.process.state) == (2, ProcessStates.EXITED)
    started.options.mood = SupervisorStates.SHUTDOWN
    assert started.process.due() == float("inf"), "the loop would spin"
    started.options.mood = SupervisorStates.RUNNING
    started.process.spawn()  # as supervisor's startProcess does
    started.turn_until(ProcessStates.EXITED)
    assert started.process.ends == 1


def test_what_waits_when_the_box_stops_has_not_failed(box, pipe) -> None:
    started = box(f"{FAILS}startsecs=5\nstartretries=9\n", required=("mine",), restart_delay=60.0)
    started.turn_until(ProcessStates.BACKOFF)
    started.turn_until(ProcessStates.STARTING)
    started.turn_until(ProcessStates.BACKOFF)
    started.options.mood = SupervisorStates.SHUTDOWN
    started.supervisor.stop_groups = list(started.supervisor.process_groups.values())
    started.supervisor.ordered_stop_groups_phase_1()
    assert started.process.state == ProcessStates.STOPPED
    assert "failed for good" not in read_all(pipe[0]).decode()
    assert started.options.exit_code == 0


@pytest.mark.parametrize("jump", [86400.0, -86400.0], ids=["forward", "back"])
def test_a_clock_that_is_set_kills_nothing_and_delays_nothing(box, pipe, monkeypatch, jump) -> None:
    deaf = "command=/bin/sh -c 'trap \"\" TERM; echo up; while :; do sleep 0.05; done'\n"
    started = box(f"{deaf}startsecs=0\nstopwaitsecs=1\n")
    started.turn_until(ProcessStates.RUNNING)
    said = b""
    while b"up" not in said:  # the trap is set
        said += started.process.config.options.readfd(next(iter(started.process.dispatchers)))
    begin = time.monotonic()
    started.process.stop()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    started.turn_until(ProcessStates.STOPPED)
    assert 0.9 < time.monotonic() - begin < 10
    assert read_all(pipe[0]).decode().count("mine did not stop within 1 s and is killed") == 1


def test_what_is_known_of_each_program_is_written(box, tmp_path: Path) -> None:
    started = box("command=sleep 60\nstartsecs=0\n", required=("mine",))
    started.turn_until(ProcessStates.RUNNING)
    started.turn()
    (name, known), *_ = programs.read_programs(str(tmp_path)).items()
    assert (name, known.group, known.state, known.pid, known.starts, known.end, known.required) == (
        "mine", "mine", "running", started.process.pid, 1, None, True,
    )  # fmt: skip
    os.kill(started.process.pid, signal.SIGKILL)
    started.turn_until(ProcessStates.EXITED)
    known = programs.read_programs(str(tmp_path))["mine"]
    assert (known.pid, known.end, known.state) == (0, "killed by SIGKILL", "waiting")
    assert os.stat(tmp_path / "programs.json").st_mode & 0o777 == 0o644


def test_a_full_run_directory_ends_nothing(box, tmp_path: Path, monkeypatch) -> None:
    started = box("command=sleep 60\nstartsecs=0\n")
    monkeypatch.setattr(started.options, "run_dir", f"{tmp_path}/not/there")
    started.turn_until(ProcessStates.RUNNING)
    assert started.options.changed  # so it is tried again
    monkeypatch.setattr(started.options, "run_dir", str(tmp_path))
    started.turn()
    assert programs.read_programs(str(tmp_path))["mine"].state == "running"


# --- the loop ---------------------------------------------------------------------------------


def test_an_empty_folder_of_programs_is_no_warning(options, pipe) -> None:
    assert options.parse_warnings  # it did warn
    assert read_all(pipe[0]) == b""


def test_the_first_poll_does_not_wait(options) -> None:
    begin = time.monotonic()
    options.poller.poll(5)
    assert time.monotonic() - begin < 2


def test_a_signal_wakes_the_poller(options) -> None:
    options.poller.poll(0)
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        begin = time.monotonic()
        options.poller.poll(10)
        assert time.monotonic() - begin < 5
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_waits_for_the_reader_is_written_by_the_poller(options, pipe) -> None:
    options.poller.poll(0)
    for _ in range(2000):
        options.show("sshd", [b"x" * 99])
    assert options.pump.pending()
    received = read_all(pipe[0])
    while options.pump.pending():
        options.poller.poll(1)
        received += read_all(pipe[0])
    received += read_all(pipe[0])
    assert received.count(b"\n") == 2000
