"""What the child that asks the driver imports, in an interpreter of its own."""

from __future__ import annotations

from testing import fresh_python


def run(code: str) -> str:
    begin = "from launcher.detect import driver\ndriver._import_nvml()\n"
    return fresh_python.run(begin + code)


def test_it_imports_pynvml_without_what_that_brings_along() -> None:
    code = "print(*({'pynvml', 'ctypes.util', 'subprocess', 'shutil'} & set(sys.modules)))"
    assert run(code) == "pynvml"


def test_what_is_left_out_is_there_for_who_uses_it() -> None:
    code = (
        "import pynvml, ctypes.util\n"
        "print(pynvml.find_library('c') == ctypes.util.find_library('c') is not None)"
    )
    assert run(code) == "True"
