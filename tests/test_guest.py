"""The programs that run in the user's Python: PyTorch is stood in for by a package of the test's.

The real one is met in the image (tests/container).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

VERIFY = Path(__file__).parents[1] / "launcher" / "guest" / "verify.py"

# As much of PyTorch as verify touches; BROKEN says how each device behaves.
TORCH = """
import types
__version__ = "2.6.0+cu124"
version = types.SimpleNamespace(cuda={cuda!r})
BROKEN = {broken!r}

class Tensor:
    def __init__(self, device):
        self.index = int(device.partition(":")[2])
        if BROKEN.get(self.index) == "raises":
            raise RuntimeError("CUDA error: no kernel image is available\\nmore\\nlines")
        if BROKEN.get(self.index) == "raises nothing to say":
            raise RuntimeError
    def __matmul__(self, other):
        return self
    def sum(self):
        return 511.0 if BROKEN.get(self.index) == "computes wrongly" else 512.0

def ones(rows, columns, device):
    assert (rows, columns) == (8, 8)
    return Tensor(device)

class cuda:
    def init():
        if {error!r}:
            raise RuntimeError({error!r})
    def device_count():
        return {devices!r}
"""


def verify(
    folder: Path,
    *,
    cuda: str | None = "12.4",
    devices: int = 2,
    broken: dict[int, str] | None = None,
    error: str = "",
) -> dict:
    text = TORCH.format(cuda=cuda, devices=devices, broken=broken or {}, error=error)
    (folder / "torch.py").write_text(text)
    return run(folder)


def run(folder: Path) -> dict:
    done = subprocess.run(
        [sys.executable, VERIFY],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return json.loads(line)


def test_every_device_computes(tmp_path: Path) -> None:
    assert verify(tmp_path, devices=8) == {
        "torch": "2.6.0+cu124",
        "cuda": "12.4",
        "devices": 8,
        "failures": {},
    }


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("raises", "CUDA error: no kernel image is available"),
        ("raises nothing to say", "RuntimeError"),
        ("computes wrongly", "wrong result"),
    ],
)
def test_a_device_that_does_not_compute_hides_none_of_the_others(tmp_path, how, why) -> None:
    result = verify(tmp_path, devices=3, broken={1: how})
    assert result["devices"] == 3
    assert list(result["failures"]) == ["1"]
    assert why in result["failures"]["1"]
    assert "\n" not in result["failures"]["1"]


def test_cuda_that_does_not_start_is_an_error_of_one_line(tmp_path: Path) -> None:
    result = verify(tmp_path, error="Error 802: system not yet initialized\nmore")
    assert result["error"] == "Error 802: system not yet initialized"
    assert result["devices"] == 0


def test_a_build_without_cuda_is_asked_nothing_more(tmp_path: Path) -> None:
    result = verify(tmp_path, cuda=None, error="must not be reached")
    assert (result["cuda"], result["devices"]) == (None, 0)
    assert "error" not in result


def test_no_pytorch_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    assert run(tmp_path) == {"torch": None, "error": "libcudart.so.12: cannot open"}
