"""What a command imports before it does anything, in an interpreter of its own."""

from __future__ import annotations

from testing import fresh_python

# Each took longer than the command did.
SLOW = {
    "ast", "dataclasses", "difflib", "email", "importlib.metadata", "inspect", "ipaddress",
    "pynvml", "shutil", "socket", "ssl", "subprocess", "tempfile", "urllib", "xml",
}  # fmt: skip
OF_THE_DOCTOR = {"subprocess"}  # it starts programs that ask the driver


def imported(code: str) -> set[str]:
    return set(fresh_python.run(f"{code}\nprint(*sys.modules)", "-S").split())


def test_the_table_of_commands() -> None:
    assert not imported("import launcher.cli.main, launcher.cli.parser") & SLOW


def test_the_doctor() -> None:
    found = imported("import launcher.cli.main, launcher.cli.parser, launcher.doctor.doctor")
    assert found & SLOW == OF_THE_DOCTOR
