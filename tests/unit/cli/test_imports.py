"""What a command imports before it does anything, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Each took longer than the command did.
SLOW = {
    "ast", "dataclasses", "difflib", "email", "importlib.metadata", "inspect", "ipaddress",
    "pynvml", "shutil", "socket", "ssl", "subprocess", "tempfile", "urllib", "xml",
}  # fmt: skip
OF_THE_DOCTOR = {"subprocess"}  # it starts programs that ask the driver


def imported(code: str) -> set[str]:
    begin = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"{begin}{code}\nprint(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


def test_the_table_of_commands() -> None:
    assert not imported("import launcher.cli.main, launcher.cli.parser") & SLOW


def test_the_doctor() -> None:
    found = imported("import launcher.cli.main, launcher.cli.parser, launcher.doctor.doctor")
    assert found & SLOW == OF_THE_DOCTOR
