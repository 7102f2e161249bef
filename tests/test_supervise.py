"""Supervisor's internals that we subclass are as we found them, and ours do what theirs do not.

supervise itself is met running in test_box.
"""

from __future__ import annotations

import inspect
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from importlib.metadata import requires, version
from pathlib import Path
from types import SimpleNamespace

import pytest
from supervisor import events, loggers, poller
from supervisor.dispatchers import POutputDispatcher
from supervisor.options import ProcessConfig, ServerOptions
from supervisor.process import Subprocess
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from launcher import supervise
from launcher.pump import Pump
from tests.test_pump import read_all

ROOT = Path(__file__).parents[1]

# What ours override: the signatures of supervisor 4.3.0.
OVERRIDDEN = {
    (poller.PollPoller, "initialize"): "(self)",
    (poller.PollPoller, "poll"): "(self, timeout)",
    (POutputDispatcher, "_init_normallog"): "(self)",
    (POutputDispatcher, "_log"): "(self, data)",
    (POutputDispatcher, "close"): "(self)",
    (ProcessConfig, "make_dispatchers"): "(self, proc)",
    (ServerOptions, "__init__"): "(self)",
    (ServerOptions, "processes_from_section"):
        "(self, parser, section, group_name, klass=None)",
    (ServerOptions, "make_logger"): "(self)",
    (ServerOptions, "set_uid_or_exit"): "(self)",
    (ServerOptions, "set_rlimits_or_exit"): "(self)",
    (ServerOptions, "cleanup_fds"): "(self)",
    (ServerOptions, "execve"): "(self, filename, argv, env)",
    (Supervisor, "runforever"): "(self)",
    (Supervisor, "handle_signal"): "(self)",
    (Supervisor, "shutdown_report"): "(self)",
}  # fmt: skip

# What ours call or rely on.
USED = {
    (Supervisor, "__init__"): "(self, options)",
    (Supervisor, "main"): "(self)",
    (ServerOptions, "realize"): "(self, *arg, **kw)",
    (ServerOptions, "close_httpservers"): "(self)",
    (ServerOptions, "get_signal"): "(self)",
    (POutputDispatcher, "__init__"): "(self, process, event_type, fd)",
    (Subprocess, "signal"): "(self, sig)",
    (loggers.Handler, "handleError"): "(self)",
}

OURS = (
    supervise.BoxPoller,
    supervise.BoxDispatcher,
    supervise.BoxProcessConfig,
    supervise.BoxOptions,
    supervise.BoxSupervisor,
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
    base = kind.__bases__[0]
    overridden = {
        name
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and hasattr(base, name)
    }
    assert overridden == {name for listed, name in OVERRIDDEN if listed is base}
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


# --- ours ------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def options(tmp_path: Path, pipe, monkeypatch) -> Iterator[supervise.BoxOptions]:
    monkeypatch.setenv("LAUNCHER_RUN_DIR", str(tmp_path))
    (tmp_path / "log").mkdir()
    made = supervise.BoxOptions(str(tmp_path), frozenset({"sshd", "watch"}), Pump(pipe[1]))
    made.realize(["-c", str(ROOT / "supervisord.conf")])
    yield made
    signal.set_wakeup_fd(-1)


def test_only_what_is_planned_is_started(options: supervise.BoxOptions) -> None:
    (group,) = options.process_group_configs
    assert group.name == "box"
    assert {program.name for program in group.process_configs} == {"sshd", "watch"}


def test_every_program_stops_before_docker_loses_patience(options) -> None:
    (group,) = options.process_group_configs
    assert all(program.stopwaitsecs < 8 for program in group.process_configs)
    assert all(program.killasgroup for program in group.process_configs)


def test_a_users_own_program_is_started_too(tmp_path: Path, pipe, monkeypatch) -> None:
    monkeypatch.setenv("LAUNCHER_RUN_DIR", str(tmp_path))
    (tmp_path / "log").mkdir()
    text = (ROOT / "supervisord.conf").read_text()
    conf = tmp_path / "supervisord.conf"
    conf.write_text(text.replace("/etc/launcher/supervisor.d", str(tmp_path / "more")))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "mine.conf").write_text("[program:mine]\ncommand=/bin/cat\n")
    made = supervise.BoxOptions(str(tmp_path), frozenset({"sshd"}), Pump(pipe[1]))
    made.realize(["-c", str(conf)])
    assert {group.name for group in made.process_group_configs} == {"box", "mine"}


def test_nothing_listens_but_a_socket_that_is_roots(options, tmp_path: Path) -> None:
    servers = options.server_configs
    assert [server["section"] for server in servers] == ["unix_http_server"]
    assert servers[0]["file"] == f"{tmp_path}/supervisor.sock"
    assert servers[0]["chmod"] == 0o700


def test_nothing_of_a_users_passes_through_the_parser() -> None:
    # It expands % and cuts at " ;": the file has one variable, and that is ours.
    text = (ROOT / "supervisord.conf").read_text()
    assert set(re.findall(r"%\((\w+)\)", text)) == {"ENV_LAUNCHER_RUN_DIR"}
    assert "environment=" not in text


class Program:
    """As much of supervisor's process as a dispatcher asks for."""

    def __init__(self, options: supervise.BoxOptions, name: str, path: Path) -> None:
        self.config = type("Config", (), {
            "name": name, "options": options, "redirect_stderr": True, "stdout_logfile": str(path),
            "stdout_logfile_maxbytes": 0, "stdout_logfile_backups": 0, "stdout_syslog": False,
            "stdout_capture_maxbytes": 0, "stdout_events_enabled": False,
            "stderr_events_enabled": False,
        })()  # fmt: skip
        self.pid = 1
        self.group = None


@pytest.fixture
def dispatcher(options, tmp_path: Path, request: pytest.FixtureRequest) -> supervise.BoxDispatcher:
    options.make_logger()
    program = Program(options, getattr(request, "param", "sshd"), tmp_path / "log" / "x.log")
    event = events.ProcessCommunicationStdoutEvent
    return supervise.BoxDispatcher(program, event, -1)


def test_a_programs_output_is_whole_lines_with_its_name(dispatcher, pipe) -> None:
    dispatcher._log(b"one\ntw")
    assert read_all(pipe[0]) == b"sshd | one\n"
    dispatcher._log(b"o\nthree\n")
    assert read_all(pipe[0]) == b"sshd | two\nsshd | three\n"


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


def test_supervisors_own_words_go_to_the_same_log(options, pipe) -> None:
    options.make_logger()
    options.logger.warn("something happened")
    assert read_all(pipe[0]) == b"launcher | something happened\n"


@pytest.mark.parametrize(("group", "code"), [("box", 70), ("mine", 0)])
def test_only_a_program_of_the_box_ends_it(options, tmp_path: Path, pipe, group, code) -> None:
    # A program that cannot even be started has no last lines: the reason is supervisor's.
    (tmp_path / "log" / "sshd.log").write_text("the last line\n")
    process = SimpleNamespace(
        spawnerr="can't find command 'launcher'",
        config=SimpleNamespace(name="sshd"),
        group=SimpleNamespace(config=SimpleNamespace(name=group)),
    )
    supervisor = supervise.BoxSupervisor(options)
    supervisor._on_fatal(SimpleNamespace(process=process))
    said = read_all(pipe[0]).decode()
    assert supervisor.exit_code == code
    assert ("can't find command 'launcher'" in said) == bool(code)
    assert ("    the last line\n" in said) == bool(code)


def test_an_empty_folder_of_programs_is_no_warning(options, pipe) -> None:
    assert options.parse_warnings  # it did warn
    options.make_logger()
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
