"""`pip install --user` in the workspace's environment: as without the option.

The environment is the user's already, and sees nothing in ~/.local; so pip refuses the option
there, which people type by habit and tools pass.  launcher_pip.pth asks for this module wherever a
Python of the environment has --user on its command line.
"""

import os
import sys


def leave_out() -> None:
    """Take --user off the command line of a `pip install`, and say so."""
    program, *words = sys.argv
    name = _module() if program == "-m" else os.path.basename(program)
    if not name.startswith("pip") or "install" not in words:
        return
    sys.argv[1:] = [word for word in words if word != "--user"]
    print(
        f"launcher: --user is left out: {sys.prefix} is yours to install into, and does not look "
        "into ~/.local",
        file=sys.stderr,
    )


def _module() -> str:
    """Return what `python -m NAME` names, which sys.argv does not tell yet: -m NAME, -ImNAME."""
    given = iter(sys.orig_argv[1:])
    for word in given:
        before, option, name = word.partition("m")
        if option and before.startswith("-") and not before.startswith("--"):
            return name or next(given, "")
    return ""
