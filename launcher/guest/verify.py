"""Run a small kernel on every device that PyTorch sees; print what happened as one JSON line.

`torch.cuda.is_available()` stays True when a wheel has no code for the device, when another
process holds it, when its memory has faults: only doing something tells.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

_LONGEST = 500  # characters of one warning

# Before 2.8 PyTorch's exceptions have no number: the words of cudaGetErrorString, and its own of
# c10/cuda/CUDAFunctions.cpp.
_CODES = {
    "CUDA driver initialization failed": 3,
    "driver on your system is too old": 35,
    "Found no NVIDIA driver on your system": 35,
    "No CUDA GPUs are available": 100,
    "CUDA unknown error": 999,
    "out of memory": 2,
    "is/are busy or unavailable": 46,
    "no kernel image is available": 209,
    "uncorrectable ECC error": 214,
    "the provided PTX was compiled with an unsupported toolchain": 222,
    "unspecified launch failure": 719,
}


def verify() -> dict[str, object]:
    # With it, is_available() counts devices with NVML, and is True where CUDA does not start.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    found = find_spec("torch")
    origin = {"origin": found.origin if found else None}
    return {**origin, **_verify()}


def _verify() -> dict[str, object]:
    try:
        import torch

        version = str(torch.__version__)
    except ModuleNotFoundError as err:
        outcome = "missing" if err.name == "torch" else "broken"
        return {"outcome": outcome, "error": _first_line(err)}
    except Exception as err:  # OSError of a library, AttributeError of an empty folder …
        return {"outcome": "broken", "error": _first_line(err)}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # whatever PYTHONWARNINGS says
        found = {"outcome": "ok", "version": version, **_build(torch), **_use(torch)}
        found["beside"] = list(_beside())
    said = dict.fromkeys(_one_line(str(one.message)) for one in caught)
    return {**found, "warnings": list(said)}


def _beside() -> Iterator[dict[str, object]]:
    """Yield what is installed that fits one PyTorch alone, as its metadata say.

    It is not imported: that takes its time, and may fail or crash.
    """
    from importlib.metadata import distribution

    for name in ("torchvision", "torchaudio"):
        with contextlib.suppress(Exception):  # it is not there, or its metadata are damaged
            found = distribution(name)
            wanted = (re.match(r"torch\s*\(?==\s*([\w.+!]+)", one) for one in found.requires or ())
            torch = next((one[1] for one in wanted if one), None)
            place = str(found.locate_file("")).rstrip("/")
            if version := found.version:
                yield {"name": name, "version": version, "place": place, "torch": torch}


def _build(torch: Any) -> dict[str, object]:
    """Return what this PyTorch was built for."""
    # get_arch_list() is empty where CUDA does not start, which is when it matters.
    flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()
    return {
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "arches": (flags or "").split(),
    }


def _use(torch: Any) -> dict[str, object]:
    """Return what PyTorch can do with the devices."""
    found: dict[str, object] = {"devices": 0, "failures": []}
    try:
        # Before init: this is what a program asks, and init would hide what it warns of.
        found["available"] = bool(torch.cuda.is_available())
        if torch.version.cuda is None:
            return found
        found["devices"] = count = torch.cuda.device_count()  # by NVML, where CUDA fails
        torch.cuda.init()
    except Exception as err:
        return {**found, "error": _first_line(err), "error_code": _code(err)}
    names = [_name(torch, index) for index in range(count)]
    return {**found, "names": names, "failures": list(_failures(torch, count))}


def _name(torch: Any, index: int) -> str:
    try:
        return str(torch.cuda.get_device_name(index))
    except Exception:  # what is wrong with it is told by computing
        return ""


def _failures(torch: Any, count: int) -> Iterator[dict[str, object]]:
    for index in range(count):
        try:
            ones = torch.ones(8, 8, device=f"cuda:{index}")
            if float((ones @ ones).sum()) != 512.0:
                yield {"index": index, "message": "wrong result of a matrix product"}
        except Exception as err:
            yield {"index": index, "message": _first_line(err), "code": _code(err)}


def _one_line(warning: str) -> str:
    """Return a warning without line ends, and without the line of C++ that it comes from."""
    text = re.sub(r"\(Triggered internally at .*?\)", "", warning)
    return " ".join(text.split())[:_LONGEST]


def _first_line(err: Exception) -> str:
    return next(iter(str(err).splitlines()), "") or type(err).__name__


def _code(err: Exception) -> int | None:
    """Return the cudaError_t of an exception: torch.AcceleratorError has it, others say it."""
    code = getattr(err, "error_code", None)
    if isinstance(code, int):
        return code
    if number := re.search(r"\bError (\d+):", str(err)):
        return int(number[1])
    return next((code for words, code in _CODES.items() if words in str(err)), None)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # PYTHONSAFEPATH leaves it out
    from launcher_child import begin

    begin()
    print(f"\n{json.dumps(verify())}", flush=True)  # a library may have printed half a line
    os._exit(0)  # what a library does at exit is not asked
