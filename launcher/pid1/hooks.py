"""Hooks: programs of whoever made or mounted them, run before the services, in order.

`find` is for PID 1; `run` is for a child of it, where waiting and subprocess do no harm.  What a
sourced hook exports is the environment of everything that starts after it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence

from launcher.model.errors import StartFailed
from launcher.model.named_tuple import NamedTuple
from launcher.process.become import BASH
from launcher.process.pump import Pump
from launcher.process.script import unix_copy
from launcher.process.tree import signal_name
from launcher.settings import environ as own_environ
from launcher.settings.folders import HOOKS

_FIRST_WORD = 10.0  # seconds after which a hook that runs is named, and from then on
_NEXT_WORD = 60.0  # every so many
# A shell has its own of these: they describe it, not the container.
_OF_A_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")


class Source(NamedTuple):
    """Where hooks are: a folder of them, or a single file; below the root folder."""

    path: str
    how: str  # "folder" | "folder, *.sh sourced" | "file"
    for_commands: bool = True  # `docker run IMAGE CMD` runs them too


# In this order; within a folder by name, as the C locale sorts.
SOURCES = (
    Source(HOOKS[0], "folder"),
    # jupyter/docker-stacks, run-hooks.sh: *.sh is sourced, any other executable is run.
    Source(HOOKS[1], "folder, *.sh sourced"),
    Source(HOOKS[2], "folder, *.sh sourced"),
    # runpod/containers, start.sh: bash runs it, executable or not.
    Source(HOOKS[3], "file", for_commands=False),
)


class Hook(NamedTuple):
    path: str
    how: str  # "run" | "source" | "bash"


class Found(NamedTuple):
    """The hooks in their order, and what lies beside them and cannot be one, with its fix."""

    hooks: tuple[Hook, ...]
    remarks: tuple[str, ...]


class Changes(NamedTuple):
    """What hooks made of the environment."""

    values: dict[str, str]
    removed: tuple[str, ...]

    def applied_to(self, environ: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in environ.items() if name not in self.removed}
        return {**kept, **self.values}


# --- which there are ---------------------------------------------------------------------------


def find(for_a_command: bool, root: str = "/") -> Found:
    """Return the hooks of this box, in the order in which they run."""
    hooks: list[Hook] = []
    remarks: list[str] = []
    for source in SOURCES:
        path = os.path.join(root, source.path)
        if for_a_command and not source.for_commands:
            continue
        if source.how == "file":
            hooks += [Hook(path, "bash")] if os.path.isfile(path) else []
            continue
        for name in _names(path, remarks):
            if source.how == "folder, *.sh sourced" and name.endswith(".sh"):
                hooks.append(Hook(f"{path}/{name}", "source"))
            elif os.access(f"{path}/{name}", os.X_OK):
                hooks.append(Hook(f"{path}/{name}", "run"))
            else:
                remarks.append(_not_executable(f"{path}/{name}"))
    return Found(tuple(hooks), tuple(remarks))


def _names(folder: str, remarks: list[str]) -> list[str]:
    """Return the files of a folder that could be hooks; hidden ones and backups are not."""
    try:
        names = sorted(os.listdir(folder), key=os.fsencode)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        remarks.append(f"no hook of {folder} is run: cannot read it: {err.strerror}")
        return []
    named = [name for name in names if not name.startswith(".") and not name.endswith("~")]
    return [name for name in named if not os.path.isdir(f"{folder}/{name}")]


def _not_executable(path: str) -> str:
    shown = printable(path)
    if not os.path.exists(path):
        return f"{shown} is not run: it is a link to nothing"
    return (
        f"{shown} is not run: it is not executable; if it is a hook: "
        f"chmod +x {shlex.quote(path) if shown == path else shown}, "
        "or for a volume of Kubernetes defaultMode: 0755"
    )


def printable(path: str) -> str:
    """Return a path as the log may show it: a line break in it must not begin a line of ours."""
    return path if path.isprintable() else repr(path)


def safe_mode_lines(hooks: Sequence[Hook]) -> tuple[str, ...]:
    """Return the line that names what safe mode leaves out; none where that is nothing."""
    names = ", ".join(printable(hook.path) for hook in hooks)
    return (f"safe mode: these hooks are not run: {names}",) if names else ()


# --- run them ----------------------------------------------------------------------------------


def run_hooks(
    hooks: Sequence[Hook], environ: Mapping[str, str], fd: int, *, go_on: bool, quiet: bool
) -> Changes:
    """Run hooks one after the other; return what they made of `environ`.

    Args:
        fd: where they write, and we: the container's log.
        go_on: a hook that fails is named, and no reason to end.
        quiet: only what goes wrong is said.

    Raises StartFailed that names the hook which failed and how it ended.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a log that is closed is no reason to end
    out = Pump(fd)
    now = dict(environ)
    for hook in hooks:
        name = printable(hook.path)
        if not quiet:
            out.say(f"launcher: running {name}")
        now, failure = _run(hook, now, fd, out)
        if failure and not go_on:
            out.flush(timeout=0.3)
            raise StartFailed(
                f"{name} failed: {failure}; so nothing is started. Mend it; until then "
                "LAUNCHER_HOOKS=warn starts all the same, LAUNCHER_SAFE_MODE=1 without any hook"
            )
        if failure:
            out.say(f"launcher: {name} failed: {failure}; the start goes on (LAUNCHER_HOOKS=warn)")
    out.flush(timeout=0.3)
    removed = tuple(name for name in environ if name not in now)
    return Changes({n: v for n, v in now.items() if environ.get(n) != v}, removed)


def _run(
    hook: Hook, environ: dict[str, str], fd: int, out: Pump
) -> tuple[dict[str, str], str | None]:
    """Run one; return the environment after it, and how it failed, None where it did not."""
    import subprocess  # in this child only: PID 1 has no use for it

    # No pipe: a daemon that a sourced hook leaves behind would hold it open.  Nor a descriptor
    # of the hook's, which has numbers of its own: it is opened by its path.
    handed_on = os.memfd_create("environment")
    argv = _argv(hook, f"/proc/{os.getpid()}/fd/{handed_on}", out)
    with open(handed_on, "rb") as after:
        try:
            process = subprocess.Popen(
                argv,
                env=own_environ.for_root(environ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=fd,
            )
        except (OSError, ValueError) as err:
            return environ, f"cannot run it: {_why(err)}"
        with _named_while_it_runs(hook, out):
            code = process.wait()
        left = after.read()
    if hook.how != "source":
        return environ, describe(code)
    if code == 0 and not left:
        return environ, "its environment did not come back (it has an EXIT trap and exits)"
    return (_parse(left, environ) if left else environ), describe(code)


def _argv(hook: Hook, handed_on: str, out: Pump) -> list[str]:
    """Return how to run a hook, or its copy that ends its lines as a shell wants."""
    path, interpreter = hook.path, []
    if copy := unix_copy(path):
        out.say(f"launcher: {printable(path)} {copy.remark}")
        path, interpreter = f"/proc/{os.getpid()}/fd/{copy.fd}", copy.interpreter()
    return {
        "run": [*interpreter, path],
        "bash": [BASH, path],
        "source": [BASH, "-c", _sourcing(path, handed_on)],
    }[hook.how]


def _sourcing(path: str, handed_on: str) -> str:
    """Return the text for bash that sources `path` and leaves the environment in `handed_on`.

    Without a variable of ours, which an exported one of the same name would carry on.  The trap
    is for a hook that ends in `exit`; `>|` since the hook may have set noclobber.
    """
    hand_on = f'set -- "$?"; /usr/bin/env -0 >| {handed_on} || set -- "$?"; exit "$1"'
    return f"trap {shlex.quote(hand_on)} EXIT\nsource {shlex.quote(path)}\n{hand_on}"


def _parse(printed: bytes, before: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that `env -0` printed, but for what a shell has of its own."""
    variables = (item.partition("=") for item in os.fsdecode(printed).split("\0") if item)
    after = {name: value for name, _, value in variables if name not in _OF_A_SHELL}
    shells = {name: before[name] for name in _OF_A_SHELL if name in before}
    return own_environ.as_given({**after, **shells})


@contextlib.contextmanager
def _named_while_it_runs(hook: Hook, out: Pump) -> Iterator[None]:
    """Say that the start waits for a hook that takes long, so that nobody has to guess."""

    def say(number: int, frame: object) -> None:
        out.say(
            f"launcher: {printable(hook.path)} has not ended yet; what starts after it waits for it"
        )

    signal.signal(signal.SIGALRM, say)
    signal.setitimer(signal.ITIMER_REAL, _FIRST_WORD, _NEXT_WORD)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def describe(code: int) -> str | None:
    """Say how a hook ended, None for well; `code` is negative for a signal."""
    if code == 0:
        return None
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit status {code}"


_FIXES = {
    errno.ENOEXEC: "its first line has to name a program, such as #!/bin/bash",
    errno.ENOENT: "the program in its first line is not in this image",
    errno.EACCES: "its file system may be mounted noexec, or the program in its first line is "
    "not executable",
    errno.E2BIG: "the environment is too large for any program to start with it",
}


def _why(err: OSError | ValueError) -> str:
    if isinstance(err, ValueError):  # a null byte: no file system has one
        return str(err)
    fix = _FIXES.get(err.errno or 0)
    return f"{err.strerror} ({fix})" if fix else str(err.strerror)
