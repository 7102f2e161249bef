"""Move the locks of what the image installs with pip, and show what moved: `make lock`.

A lock names every package that is installed, its version, and the hash of each of its files.  uv
resolves for every platform and Python at once, so one lock serves all of them.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools import venv
from tools.image import default_torch
from tools.variants import NEWEST

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "image" / "locks"
TORCH = FOLDER / "torch" / "2.6.0.txt"
NOTEBOOK = FOLDER / "notebook" / "notebook.txt"
PINNED = re.compile(r"^([a-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


class Lock(NamedTuple):
    """A lock, and what it is resolved from."""

    path: Path
    python: str  # the oldest that it serves
    inputs: tuple[str, ...]  # arguments of `uv pip compile`; "-": standard input
    text: str = ""


def locks() -> Iterator[Lock]:
    """Yield every lock, in the order in which they are made."""
    # The packages that several name have one version.
    yield Lock(TORCH, "3.11", ("-",), lines(default_torch()))
    notebook = ("image/requirements.txt", "--constraint", str(TORCH.relative_to(PROJECT)))
    yield Lock(NOTEBOOK, "3.11", notebook)
    newest = ("-", "--constraint", str(NOTEBOOK.relative_to(PROJECT)))
    yield Lock(FOLDER / "torch" / "2.14.1.txt", "3.11", newest, lines(NEWEST))
    yield Lock(FOLDER / "launcher" / "launcher.txt", "3.10", ("pyproject.toml",))
    yield Lock(FOLDER / "launcher" / "build.txt", "3.10", ("-",), build_requirements())


def lines(requirements: str) -> str:
    return "\n".join(requirements.split())


def build_requirements() -> str:
    """Return what pyproject.toml asks for to build the launcher's wheel, one a line."""
    found = re.search(r"^requires = \[(.*)\]$", (PROJECT / "pyproject.toml").read_text(), re.M)
    assert found, "pyproject.toml has no build requirements"
    return "\n".join(re.findall(r'"([^"]+)"', found[1]))


def versions(lock: str) -> dict[str, str]:
    """Return the version of each package in the text of a lock; two where Pythons differ.

    >>> versions("numpy==2.4.6 \\\\\\n    --hash=sha256:00\\n    # via pandas\\n")
    {'numpy': '2.4.6'}
    """
    found: dict[str, str] = {}
    for name, version in PINNED.findall(lock):
        found[name] = f"{found[name]}, {version}" if name in found else version
    return found


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return a line for each package that moved, came or went.

    >>> difference({"a": "1", "b": "2"}, {"a": "1.1", "c": "3"})
    ['a 1 -> 1.1', 'b 2 -> gone', 'c new -> 3']
    """
    return [
        f"{name} {before.get(name, 'new')} -> {after.get(name, 'gone')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def move(lock: Lock) -> list[str]:
    """Resolve it anew; return what moved.  Raises CalledProcessError: uv has said why."""
    before = lock.path.read_text() if lock.path.exists() else ""
    lock.path.parent.mkdir(parents=True, exist_ok=True)
    options = ["--universal", "--python-version", lock.python, "--generate-hashes", "--upgrade"]
    options += ["--quiet", "--no-header", "--output-file", str(lock.path)]
    subprocess.run(
        [venv.VENV / "bin" / "uv", "pip", "compile", *lock.inputs, *options],
        cwd=PROJECT,
        input=lock.text,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,  # the lock again
    )
    return difference(versions(before), versions(lock.path.read_text()))


def main() -> int:
    for lock in locks():
        try:
            moved = move(lock)
        except subprocess.CalledProcessError as err:
            return err.returncode
        print(f"{lock.path.relative_to(PROJECT)}: {len(moved)} moved")
        for line in moved:
            print(f"  {line}")
    print("what to do next: make image, make test; then commit image/locks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
