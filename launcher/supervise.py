"""Supervisor as a library, in our own process.  The only module that imports supervisor.

What stock supervisord does otherwise, and we cannot use: it waits a second before its first
spawn and up to a second on a signal; it blocks on a log that nobody reads; it stays up, or
exits 0, when a program is FATAL.  supervisor is pinned exactly, and a test fails if the
internals that are subclassed here move.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from supervisor import events, loggers, poller
from supervisor.dispatchers import POutputDispatcher
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ProcessConfig, ServerOptions
from supervisor.states import SupervisorStates
from supervisor.supervisord import Supervisor

from launcher import become, environ, service
from launcher.errors import LauncherError, StartFailed
from launcher.pump import Pump

# Beside ours in an installed image, beside the package in a checkout.
_CONFIGURATIONS = (
    "/etc/launcher/supervisord.conf",
    os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "supervisord.conf"),
)
_REQUIRED_GROUP = "box"
_LONGEST_LINE = 16 * 1024


def run(run_dir: str) -> int:
    """Supervise until told to stop.  Returns 0, or 70 after a required program failed for good."""
    planned = frozenset(
        name.removesuffix(".json") for name in os.listdir(f"{run_dir}/services")
    ) | {"watch"}
    environ.replace({"PATH": become.launcher_path(), "LAUNCHER_RUN_DIR": run_dir})
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a client that hangs up must not end the box
    options = BoxOptions(run_dir, planned, Pump(1))
    options.realize(["-c", next(path for path in _CONFIGURATIONS if os.path.exists(path))])
    options.first, options.test = True, False
    supervisor = BoxSupervisor(options)
    with contextlib.suppress(asyncore.ExitNow):
        supervisor.main()
    options.close_httpservers()
    options.pump.flush(timeout=0.3)
    return supervisor.exit_code


class BoxPoller(poller.PollPoller):  # type: ignore[misc]
    """Polls at once the first time, wakes on signals, and drains the pump when it can."""

    def initialize(self) -> None:
        super().initialize()
        self._first = True
        self._wake, writer = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._poller.register(self._wake, self.READ)

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        pump: Pump = self.options.pump
        if pump.pending():
            self._poller.register(pump.fd, self.WRITE)
        readable, writable = super().poll(0 if self._first else timeout)
        self._first = False
        if pump.pending():
            self._poller.unregister(pump.fd)
            pump.flush()
        if self._wake in readable:
            os.read(self._wake, 4096)
        own = (self._wake, pump.fd)
        return [fd for fd in readable if fd not in own], [fd for fd in writable if fd not in own]


class BoxDispatcher(POutputDispatcher):  # type: ignore[misc]
    """Sends a program's output to the container's log too, in whole lines with its name."""

    _partial = b""

    def _init_normallog(self) -> None:
        super()._init_normallog()
        for handler in self.normallog.handlers if self.normallog else ():
            handler.handleError = lambda: None  # a traceback for each line while the disk is full

    def _log(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the disk is full: the container's log still gets it
            super()._log(data)
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        if len(self._partial) > _LONGEST_LINE:
            lines.append(self._partial)
            self._partial = b""
        self.process.config.options.show(self.process.config.name, lines)

    def close(self) -> None:
        if self._partial:
            self._log(b"\n")
        super().close()


class BoxProcessConfig(ProcessConfig):  # type: ignore[misc]
    def make_dispatchers(self, proc: Any) -> tuple[dict[int, Any], dict[str, Any]]:
        dispatchers, pipes = super().make_dispatchers(proc)
        out = pipes["stdout"]
        event = events.ProcessCommunicationStdoutEvent
        dispatchers[out] = BoxDispatcher(proc, event, out)
        return dispatchers, pipes


class BoxOptions(ServerOptions):  # type: ignore[misc]
    """supervisord.conf, with this run's directory and only the planned programs."""

    def __init__(self, run_dir: str, planned: frozenset[str], pump: Pump) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.planned = planned
        self.pump = pump
        self.poller = BoxPoller(self)

    def processes_from_section(
        self, parser: Any, section: str, group_name: str, klass: Any = None
    ) -> list[Any]:
        if klass in (None, ProcessConfig):
            klass = BoxProcessConfig
        processes = super().processes_from_section(parser, section, group_name, klass)
        if group_name != _REQUIRED_GROUP:
            return list(processes)
        return [process for process in processes if process.name in self.planned]

    def show(self, program: str, lines: list[bytes]) -> None:
        """Put lines into the container's log; watch speaks for the launcher itself."""
        prefix = b"" if program == "watch" else program.encode() + b" | "
        if lines:
            self.pump.write(b"".join(prefix + line + b"\n" for line in lines))

    def make_logger(self) -> None:
        self.logger = loggers.getLogger(self.loglevel)
        self.logger.handlers.append(_PumpHandler(self.pump))
        for message in self.parse_warnings:
            if not message.startswith("No file matches"):  # supervisor.d is empty: the usual case
                self.logger.warn(message)

    def set_uid_or_exit(self) -> None:
        """Stay who we are: `launcher exec` drops privileges for each program."""

    def set_rlimits_or_exit(self) -> None:
        """Live within the limits that the container was given."""

    def cleanup_fds(self) -> None:
        """Close nothing: the descriptors above 2 are our own."""

    def execve(self, filename: str, argv: list[str], env: dict[str, str]) -> None:
        if argv[:2] == ["launcher", "exec"]:  # what it would do, without a second interpreter
            try:
                become.become(become.load(self.run_dir, argv[2]))
            except LauncherError as err:
                os.write(2, f"{err}\n".encode(errors="replace"))
                os._exit(err.exit_code)
        if argv[0] == "launcher":  # root's Python runs with -I, which pip's scripts have not
            filename, argv = sys.executable, [sys.executable, "-I", "-m", "launcher.cli", *argv[1:]]
        become.restore_signals()  # what Python ignores would stay ignored in the program
        os.execve(filename, argv, env)


class _PumpHandler(loggers.Handler):  # type: ignore[misc]
    def __init__(self, pump: Pump) -> None:
        super().__init__()
        self._pump = pump

    def emit(self, record: Any) -> None:
        self._pump.say(f"launcher | {record.asdict()['message'].strip()}")


class BoxSupervisor(Supervisor):  # type: ignore[misc]
    exit_code = 0

    def runforever(self) -> None:
        events.subscribe(events.ProcessStateFatalEvent, self._on_fatal)
        super().runforever()

    def handle_signal(self) -> None:
        """TERM stops everything; HUP makes sshd read its new files, and restarts nothing."""
        number = self.options.get_signal()
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            self.options.mood = SupervisorStates.SHUTDOWN
        elif number == signal.SIGHUP:
            sshd = self.process_groups[_REQUIRED_GROUP].processes.get("sshd")
            if sshd is not None and sshd.pid:
                sshd.signal(signal.SIGHUP)

    def shutdown_report(self) -> list[Any]:
        return [
            process
            for group in self.process_groups.values()
            for process in group.get_unstopped_processes()
        ]

    def _on_fatal(self, event: Any) -> None:
        process = event.process
        if process.group.config.name != _REQUIRED_GROUP:
            return
        name = process.config.name
        say: Callable[[str], None] = self.options.pump.say
        why = f" ({process.spawnerr})" if process.spawnerr else ""
        say(f"launcher: {name} failed for good{why}, so the container ends. Its last lines:")
        for line in service.last_lines(f"{self.options.run_dir}/log/{name}.log"):
            say(f"    {line}")
        self.exit_code = StartFailed.exit_code
        self.options.mood = SupervisorStates.SHUTDOWN
