"""What the child that asks the driver imports, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run(code: str) -> str:
    begin = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from launcher.detect import driver\n"
        "driver._import_nvml()\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", begin + code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_it_imports_pynvml_without_what_that_brings_along() -> None:
    code = "print(*({'pynvml', 'ctypes.util', 'subprocess', 'shutil'} & set(sys.modules)))"
    assert run(code) == "pynvml"


def test_what_is_left_out_is_there_for_who_uses_it() -> None:
    code = (
        "import pynvml, ctypes.util\n"
        "print(pynvml.find_library('c') == ctypes.util.find_library('c') is not None)"
    )
    assert run(code) == "True"
