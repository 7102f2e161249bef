"""Keep the project's virtual environment, `.venv`, as the pinned versions say.

python3 -m tools.venv run     the launcher, and the notebook set of the image
python3 -m tools.venv test    the same, and what the tests and `make lint` need
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools import system_packages

PROJECT = Path(__file__).parents[1]
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 10)

PINS = ("pyproject.toml", "image/requirements.txt")
NOTEBOOK = ("--requirement", "image/requirements.txt")
SETS: dict[str, tuple[str, ...]] = {
    "run": ("--editable", ".", *NOTEBOOK),
    "test": ("--editable", ".[test]", *NOTEBOOK),
}


# What each takes of the disk; PyTorch comes on top of both (tools/run_local.py).
SIZES = {"run": "550 MB", "test": "900 MB", "torch": "1 GB (a CPU build) to 6 GB (CUDA)"}


def provide(name: str) -> None:
    """Install the set into `.venv` unless its pins are installed already."""
    provide_pip()
    install(name, SETS[name], with_uv=True)


def provide_pip() -> None:
    """Make `.venv` if it is not there."""
    if sys.version_info < OLDEST:
        version = ".".join(map(str, OLDEST))
        sys.exit(f"cannot go on: Python {version} or newer is needed, this is {sys.version}")
    if not _works():
        _make()


def install(name: str, arguments: tuple[str, ...], with_uv: bool = False) -> None:
    """Install `arguments` into `.venv` unless that was done with the same pins.

    Args:
        with_uv: try uv first, which takes an eighth of pip's time.  It knows nothing of pip's
            configuration, so pip does what uv cannot.
    """
    if is_installed(name, arguments):
        return
    size = f", about {SIZES[name]} on disk" if name in SIZES else ""
    print(f"installing into .venv{size}: {' '.join(arguments)}", flush=True)
    code = _install_with_uv(arguments) if with_uv else 1
    if code:
        code = _run("pip", "--disable-pip-version-check", "install", *_quiet(), *arguments)
    if code:
        sys.exit(code)
    stamp = _stamp(name)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(_digest(arguments))


def is_installed(name: str, arguments: tuple[str, ...]) -> bool:
    """Say whether `.venv` has these, with the pins of now."""
    stamp = _stamp(name)
    return stamp.exists() and stamp.read_text() == _digest(arguments)


def _stamp(name: str) -> Path:
    return VENV / "installed" / name


def _install_with_uv(arguments: tuple[str, ...]) -> int:
    pinned = re.search(r"^uv==\S+", (PROJECT / PINS[1]).read_text(), re.MULTILINE)
    if pinned is None or _run("pip", "--disable-pip-version-check", "install", "-q", pinned[0]):
        return 1
    return _run("uv", "pip", "install", *_quiet(), "--python", str(PYTHON), *arguments)


def _run(*module_and_arguments: str) -> int:
    return subprocess.run(
        [str(PYTHON), "-m", *module_and_arguments], cwd=PROJECT, check=False
    ).returncode


def _quiet() -> tuple[str, ...]:
    """What installers say is for a person who waits; in a log it is a thousand lines."""
    return () if sys.stdout.isatty() else ("--quiet",)


def _digest(arguments: tuple[str, ...]) -> str:
    pins = [(PROJECT / name).read_bytes() for name in PINS]
    return hashlib.sha256(b"\0".join([*pins, repr(arguments).encode()])).hexdigest()


def _works() -> bool:
    """Say whether `.venv` is whole: making it may have been interrupted, its Python upgraded."""
    try:
        asked = subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False)
    except OSError:
        return False
    return asked.returncode == 0


def _make() -> None:
    system_packages.provide("venv")
    print("making .venv", flush=True)
    shutil.rmtree(VENV, ignore_errors=True)
    if code := subprocess.run([sys.executable, "-m", "venv", VENV], check=False).returncode:
        sys.exit(code)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SETS:
        sys.exit(f"usage: python3 -m tools.venv {{{','.join(SETS)}}}")
    provide(sys.argv[1])
