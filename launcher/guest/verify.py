"""Run a small kernel on every device that PyTorch sees; print what happened as one JSON line.

`torch.cuda.is_available()` stays True when a wheel has no code for the device, when another
process holds it, when its memory has faults: only doing something tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def verify() -> dict[str, object]:
    try:
        import torch
    except ImportError as err:
        return {"torch": None, "error": str(err)}
    result: dict[str, object] = {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": 0,
        "failures": {},
    }
    if torch.version.cuda is None:
        return result
    try:
        torch.cuda.init()
        count = torch.cuda.device_count()
    except Exception as err:
        return {**result, "error": _first_line(err)}
    return {**result, "devices": count, "failures": dict(_failures(torch, count))}


def _failures(torch: Any, count: int) -> Iterator[tuple[int, str]]:
    for index in range(count):
        try:
            ones = torch.ones(8, 8, device=f"cuda:{index}")
            if float((ones @ ones).sum()) != 512.0:
                yield index, "wrong result of a matrix product"
        except Exception as err:
            yield index, _first_line(err)


def _first_line(err: Exception) -> str:
    return (str(err) or type(err).__name__).splitlines()[0]


if __name__ == "__main__":
    print(json.dumps(verify()))
