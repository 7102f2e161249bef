"""supervisord.conf and supervisor.d as programs: which of them, as whom, and where they write."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import Any

from supervisor import loggers
from supervisor.datatypes import Automatic
from supervisor.options import ProcessConfig, ServerOptions
from supervisor.states import SupervisorStates

from launcher.box import files
from launcher.box import run_dir as box_run_dir
from launcher.detect import cgroup
from launcher.model import run_files
from launcher.model.errors import BadSetting, LauncherError, StartFailed
from launcher.model.plan import Plan, Supervision
from launcher.model.printable import printable_line
from launcher.model.services import GROUP
from launcher.process import become
from launcher.process.fork import restore_signals
from launcher.settings import environ
from launcher.supervise import drop_ins
from launcher.supervise.output import EVENTS, BoxDispatcher, PumpHandler
from launcher.supervise.program import BoxProcess
from launcher.supervise.said import Log

_TO_BE_EARLIER = 1.0  # seconds: PID 1 kills what is left, and does not know its name
_LOG_SIZE = 512 * 1024
# As log files these would be written to without asking whether anybody reads them.
_CONTAINERS_LOG = {f"{path}{n}" for path in ("/dev/fd/", "/proc/self/fd/") for n in (1, 2)}
_CONTAINERS_LOG |= {"/dev/stdout", "/dev/stderr"}
_UNIMPORTANT = ("No file matches", "AUTO logging")  # warnings of supervisor's parser


class BoxProcessConfig(ProcessConfig):  # type: ignore[misc]
    """What ours know of a program besides its section."""

    options: Any
    name: str
    ours: bool
    required: bool
    for_the_user: bool  # runs as the workspace user, in the planned environment
    shown: tuple[str, ...]  # which of stdout and stderr the container's log has

    def make_process(self, group: Any = None) -> Any:
        process = BoxProcess(self)
        process.group = group
        return process

    def make_dispatchers(self, proc: Any) -> tuple[dict[int, Any], dict[str, Any]]:
        dispatchers, pipes = super().make_dispatchers(proc)
        for channel in self.shown:
            fd = pipes[channel]
            dispatchers[fd] = BoxDispatcher(proc, EVENTS[channel], fd)
        return dispatchers, pipes


class BoxOptions(ServerOptions):  # type: ignore[misc]
    """supervisord.conf, with this run's directory and only the planned programs."""

    child: Any = None  # in a forked child: the configuration of the program it becomes
    changed = False  # some program's state is not as it was written last
    exit_code = 0

    def __init__(
        self,
        run_dir: str,
        planned: Collection[str],
        supervision: Supervision,
        pump: Log,
        folder: str = drop_ins.FOLDER,
    ) -> None:
        super().__init__()
        self.run_dir = run_dir
        self.planned = planned
        self.supervision = supervision
        self.pump = pump
        self.loglevel = loggers.LevelsByName.ERRO
        self.environ_expansions["ENV_LAUNCHER_PROGRAMS"] = drop_ins.pattern(supervision, folder)
        self.memory_kills = cgroup.Kills()
        self.hints_said: set[str] = set()

    # --- reading ---

    def usage(self, msg: object) -> None:
        """Refuse what supervisor's parser refuses, as a setting that cannot be used."""
        reason = " ".join(str(msg).split())
        named = reason.startswith("/")
        raise BadSetting(
            f"cannot use {'' if named else f'the programs of {drop_ins.FOLDER}: '}{reason}"
        )

    def processes_from_section(
        self, parser: Any, section: str, group_name: str, klass: Any = None
    ) -> list[Any]:
        file = parser.section_to_file.get(section, "supervisord.conf")
        try:
            processes = super().processes_from_section(
                parser, section, group_name, BoxProcessConfig
            )
        except ValueError as err:
            raise ValueError(f"{file}: [{section}]: {err}") from err
        program = section.partition(":")[2].strip()
        if group_name == GROUP:
            processes = [process for process in processes if process.name in self.planned]
        elif not self._is_chosen(program, group_name):
            return []
        required = bool({program, group_name} & set(self.supervision.required))
        for process in processes:
            self._settle(process, group_name == GROUP, required)
        return list(processes)

    def process_groups_from_parser(self, parser: Any) -> list[Any]:
        groups = super().process_groups_from_parser(parser)
        return [group for group in groups if group.process_configs]

    def _is_chosen(self, *names: str) -> bool:
        chosen = self.supervision.programs
        return chosen is None or any(name in chosen for name in names)

    def _settle(self, process: Any, ours: bool, required: bool) -> None:
        """Decide what the section leaves open."""
        process.ours = ours
        process.required = required or (ours and process.name in self.supervision.required)
        longest = max(self.supervision.stop_timeout - _TO_BE_EARLIER, _TO_BE_EARLIER)
        process.stopwaitsecs = min(process.stopwaitsecs, longest)
        if ours:
            process.for_the_user, process.shown = False, ("stdout",)
            return
        process.for_the_user = process.uid is None or _asks_for_it(process)
        shown = [channel for channel in EVENTS if _is_open(process, channel)]
        if "stdout" in shown and (len(shown) == 2 or process.redirect_stderr):
            shown, process.redirect_stderr, process.stderr_logfile = ["stdout"], True, None
        for channel in shown:
            path = f"{self.run_dir}/{run_files.log(process.name)}"
            setattr(process, f"{channel}_logfile", path)
            setattr(process, f"{channel}_logfile_maxbytes", _LOG_SIZE)
            setattr(process, f"{channel}_logfile_backups", 1)
        process.shown = tuple(shown)

    # --- saying ---

    def fitted(self, message: str) -> str:
        """Return a message in the words of the place where the box runs."""
        from launcher.checks.facts import how_to_run  # only where something cannot be done

        return how_to_run.fit_at(message, self.supervision.place)

    def show(self, program: str, lines: list[bytes]) -> None:
        """Put lines into the container's log; watch speaks for the launcher itself."""
        prefix = b"" if program == "watch" else program.encode(errors="replace") + b" | "
        if lines:
            shown = lines if program == "watch" else map(printable_line, lines)
            self.pump.write(b"".join(prefix + line + b"\n" for line in shown))

    def make_logger(self) -> None:
        """Log errors alone: what becomes of a program is said by the program (`program`)."""
        self.logger = loggers.getLogger(self.loglevel)
        self.logger.handlers.append(PumpHandler(self.pump))
        for message in self.parse_warnings:
            if not any(words in message for words in _UNIMPORTANT):
                self.pump.say(f"launcher: {message}")

    def failed(self, process: Any) -> None:
        """Say that a program failed for good, and end the box where it is required."""
        name, required = process.config.name, process.config.required
        why = f"failed for good ({process.end or process.spawnerr})"
        file = process.last_lines_file()
        if process.hopeless:  # tried once, so its lines stand right above
            why, file = "cannot run here, as it says above", None
        rest = "so the container ends" if required else "and the box goes on without it"
        said = f"launcher: {name} {why}, {rest}"
        lines = files.last_lines(file) if file else []
        self.pump.say(f"{said}. Its last lines:" if lines else said)
        for line in lines:
            self.pump.say(f"    {line}")
        if required:
            self.exit_code = (BadSetting if process.hopeless else StartFailed).exit_code
            self.mood = SupervisorStates.SHUTDOWN
        else:
            self.pump.say(f"launcher: to start {name} again: launcher restart {name}")

    def end_unused(self) -> None:
        """End the box in good order: Jupyter was to end where nobody uses it."""
        self.pump.say("launcher: Jupyter ended because nobody used it, and the box with it")
        self.mood = SupervisorStates.SHUTDOWN

    # --- running ---

    def set_rlimits_or_exit(self) -> None:
        """Live within the limits that the container was given."""

    def execve(self, filename: str, argv: list[str], env: dict[str, str]) -> None:
        """Become the program, as `launcher exec` would, without a second interpreter."""
        try:
            if self.child.for_the_user:
                own = environ.own()  # ours, which is no user's business
                given = {name: value for name, value in env.items() if own.get(name) != value}
                plan = box_run_dir.read_value(Plan, run_files.PLAN)
                cwd = None if self.child.directory else plan.paths.workspace
                become.become_user(plan, argv, given, cwd, self.child.umask)
            if self.child.ours and argv[:2] == ["launcher", "exec"]:
                become.become(become.load_service(self.run_dir, argv[2]))
        except LauncherError as err:
            os.write(2, f"{self.fitted(str(err))}\n".encode(errors="replace"))
            os._exit(err.exit_code)
        if self.child.ours:  # root's Python runs with -I, which pip's scripts have not
            filename, argv = (
                sys.executable,
                [sys.executable, "-I", "-m", "launcher.cli.main", *argv[1:]],
            )
        restore_signals()  # what Python ignores would stay ignored in the program
        os.execve(filename, argv, env)


def _asks_for_it(process: Any) -> bool:
    """Say whether root's program is `launcher exec -- …`: no other interpreter is needed for it."""
    words = process.command.split()
    return process.uid == 0 and drop_ins.command_for_the_user(words) is not None


def _is_open(process: Any, channel: str) -> bool:
    """Say whether its section leaves open where that goes, or names the container's log."""
    file = getattr(process, f"{channel}_logfile")
    return file is Automatic or file in _CONTAINERS_LOG
