"""Provide checkov, which holds Kubernetes' files against policies, in an environment of its own.

Its pins contradict those of the tests.
"""

from __future__ import annotations

import subprocess
import sys

from tools.turn import CACHE, turn

PIN = "checkov==3.3.30"
FOLDER = CACHE / "checkov"
PYTHON = FOLDER / "bin" / "python"


def provide() -> list[str]:
    """Return the start of its command.  Raises RuntimeError where it cannot be installed."""
    with turn("checkov"):
        _install()
    return [str(PYTHON), "-m", "checkov.main"]


def _install() -> None:
    stamp = FOLDER / "installed"
    if not stamp.exists() or stamp.read_text() != PIN:
        _run(sys.executable, "-m", "uv", "venv", "--quiet", "--clear", "--seed", str(FOLDER))
        install = ["pip", "install", "--quiet", PIN]
        try:
            _run(sys.executable, "-m", "uv", *install, "--python", str(PYTHON))
        except RuntimeError:  # uv knows nothing of pip's configuration
            _run(str(PYTHON), "-m", *install)
        stamp.write_text(PIN)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot install {PIN}: {done.stderr.strip()}")
