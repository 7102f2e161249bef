"""Commands that supervise and the engine call, often: nothing is imported that they do not need."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from launcher.model.errors import BadSetting
from launcher.settings import environ


def healthcheck(arguments: Sequence[str]) -> int:
    from launcher.watch import health

    if health.in_command_mode():
        return 0
    healthy, said = health.say_health(environ.run_dir())
    if said:
        print(said)
    return 0 if healthy else 1


def entrypoint_replaced() -> str | None:
    """Return what to say where the image's entrypoint never ran, and nobody started the box since.

    Dev Containers and some clouds start a program of theirs in its place.
    """
    from launcher.model import run_files
    from launcher.settings import folders
    from launcher.watch import health

    there = os.path.exists(f"{environ.run_dir()}/{run_files.PLAN}")
    there = there or folders.uid_of_another_box() is not None
    if (
        there
        or not os.path.exists(folders.IN_OUR_IMAGE)
        or not (other := health.another_entrypoint())
    ):
        return None
    return (
        f"the image's entrypoint did not run here: the container was started with {other!r}, so "
        "there is no environment of ours and no service; start the box with "
        "launcher start --background, or one command with launcher run -- CMD"
    )


def watch(arguments: Sequence[str]) -> int:
    from launcher.model.printable import printable
    from launcher.watch import watch as watching

    watching.watch_box(environ.run_dir(), lambda line: print(printable(line), flush=True))
    return 0


def post_start(arguments: Sequence[str]) -> int:
    from launcher.supervise import post_start

    post_start.run_post_start(environ.run_dir())
    return 0


def become(arguments: Sequence[str]) -> int:
    """Become a service, or with `--` any command as the workspace user."""
    from launcher.process import become

    if arguments[:1] == ["--"] and arguments[1:]:
        return _run_as_the_user(list(arguments[1:]))
    if len(arguments) != 1 or arguments == ["--"]:
        raise BadSetting("usage: launcher exec NAME, or: launcher exec -- CMD …")
    become.become(become.load_service(environ.run_dir(), arguments[0]))
    return 0


def _run_as_the_user(argv: list[str]) -> int:
    from launcher.box import privilege, run_dir
    from launcher.process import become
    from launcher.process.fork import restore_signals
    from launcher.render import shell

    plan = run_dir.read_plan()
    if plan is None:
        nothing = "no box runs here, so there is no environment to run in"
        why = entrypoint_replaced() or f"{nothing}{privilege.of_another()}"
        raise BadSetting(why)
    env = shell.exec_environment(plan, environ.own())

    def run() -> int:
        if os.geteuid() == 0:  # else we are the user's program already
            become.be_killed_first()
        become.drop_to_user(plan)
        restore_signals()
        try:
            os.execvpe(argv[0], argv, env)
        except FileNotFoundError:
            print(f"launcher: cannot run {argv[0]!r}: not found", file=sys.stderr, flush=True)
            return 127
        except OSError as err:
            said = f"launcher: cannot run {argv[0]!r}: {err.strerror}"
            print(said, file=sys.stderr, flush=True)
            return 126

    if os.geteuid() == 0 and not plan.identity.is_root:
        from launcher.process import terminal

        if terminal.is_shared():
            return terminal.run_apart(run)
    return run()
