"""What root may give away at the start: CHOWN_HOME_OPTS, CHOWN_EXTRA and its options.  Pure.

The Jupyter Docker Stacks hand these to chown(1) as they are.  Here a folder of the system's is
refused: whoever owns it would be root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

# What root runs, reads or trusts; neither these, nor what is in them, nor what they are in.
_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt/launcher",
    "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var",
)  # fmt: skip
_EVERYBODYS = ("/home", "/tmp")  # what is in them may be given away
_ACCEPTED = "folders of yours, apart by commas, such as /data,/models; none of the system's"
# -R, and what says nothing else than what happens anyway: no output, and links themselves.
_OPTION = r"-[Rvcfh]+|--(recursive|verbose|changes|silent|quiet|no-dereference)"


def options(text: str) -> str:
    """Return "-R" where options of chown(1) ask for it, "" for those that change nothing here."""
    words = text.split()
    if not words or not all(re.fullmatch(_OPTION, word) for word in words):
        raise ValueError("-R")
    recursive = any(word == "--recursive" or "R" in word.partition("--")[0] for word in words)
    return "-R" if recursive else ""


def folders(text: str) -> tuple[str, ...]:
    """Return the folders of a list, apart by commas or spaces."""
    paths = tuple(os.path.normpath(part) for part in text.replace(",", " ").split())
    if not paths or not all(path.startswith("/") and path.isprintable() for path in paths):
        raise ValueError(_ACCEPTED)
    if kept := next(filter(is_of_the_system, paths), None):
        raise ValueError(f"{_ACCEPTED}, as {kept} is")
    return tuple(dict.fromkeys(paths))


def is_of_the_system(path: str) -> bool:
    """Return whether a folder, given away, would give root's powers away, too."""
    path = f"/{path.strip('/')}"
    return path in ("/", *_EVERYBODYS) or any(_overlap(path, one) for one in _SYSTEM)


def problems(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield which folders of CHOWN_EXTRA would give away one of ours.

    Args:
        values: of the fields of `Settings`.
    """
    kept = {"LAUNCHER_RUN_DIR": values["run_dir"], "LAUNCHER_STATE_DIR": values["state_dir"]}
    for path in values["chown_extra"]:
        for name, ours in kept.items():
            if _overlap(path, ours):
                yield (
                    f"CHOWN_EXTRA={path} and {name}={ours} contradict each other: "
                    "leave one of them out"
                )


def _overlap(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
