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

from testing.local_box import wait_until

VERIFY = Path(__file__).parents[3] / "launcher" / "guest" / "verify.py"

# As much of PyTorch as verify touches; BROKEN says how each device behaves.
TORCH = """
import os, types, warnings
__version__ = "2.6.0+cu124"
version = types.SimpleNamespace(cuda={cuda!r}, hip={hip!r})
_C = types.SimpleNamespace(_cuda_getArchFlags=lambda: "sm_80 sm_90 compute_90")
BROKEN = {broken!r}

class AcceleratorError(RuntimeError):
    error_code = 214

class Tensor:
    def __init__(self, device):
        self.index = int(device.partition(":")[2])
        if BROKEN.get(self.index) == "raises":
            raise RuntimeError("CUDA error: no kernel image is available\\nmore\\nlines")
        if BROKEN.get(self.index) == "raises with a number":
            raise AcceleratorError("CUDA error: words of a later version")
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
    def is_available():
        if {error!r}:
            where = " (Triggered internally at /pytorch/c10/cuda/CUDAFunctions.cpp:109.)"
            warnings.warn("CUDA initialization: " + {error!r} + where)
        return "PYTORCH_NVML_BASED_CUDA_CHECK" in os.environ or not {error!r}
    def init():
        if {error!r}:
            raise RuntimeError({error!r})
    def device_count():
        return {devices!r}
    def get_device_name(index):
        return BROKEN.get(index) == "has no name" and 1 / 0 or "NVIDIA H100"
"""


def verify(
    folder: Path,
    *,
    cuda: str | None = "12.4",
    hip: str | None = None,
    devices: int = 2,
    broken: dict[int, str] | None = None,
    error: str = "",
    **environ: str,
) -> dict:
    text = TORCH.format(cuda=cuda, hip=hip, devices=devices, broken=broken or {}, error=error)
    (folder / "torch.py").write_text(text)
    return run(folder, **environ)


def run(folder: Path, **environ: str) -> dict:
    done = subprocess.run(
        [sys.executable, VERIFY],
        env={**os.environ, "PYTHONPATH": str(folder), **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_device_computes(tmp_path: Path) -> None:
    assert verify(tmp_path, devices=2) == {
        "origin": str(tmp_path / "torch.py"),
        "outcome": "ok",
        "version": "2.6.0+cu124",
        "cuda": "12.4",
        "hip": None,
        "arches": ["sm_80", "sm_90", "compute_90"],
        "available": True,
        "devices": 2,
        "names": ["NVIDIA H100", "NVIDIA H100"],
        "failures": [],
        "beside": [],
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("requires", "torch"),
    [
        ("torch==2.7.1", "2.7.1"),
        ("torch (==2.7.1+cu126)", "2.7.1+cu126"),
        ("torch", None),
        ("torch>=2", None),
        ("torchmetrics==1.0", None),
    ],
)
def test_what_was_built_for_one_pytorch_is_told_with_its_place(
    tmp_path: Path, requires: str, torch: str | None
) -> None:
    info = tmp_path / "torchvision-0.22.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: torchvision\nVersion: 0.22.1\nRequires-Dist: numpy\n"
        f"Requires-Dist: {requires}\n"
    )
    damaged = tmp_path / "torchaudio-2.6.0.dist-info"
    damaged.mkdir()
    (found,) = verify(tmp_path)["beside"]
    assert found == {
        "name": "torchvision", "version": "0.22.1", "place": str(tmp_path), "torch": torch,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("how", "why", "code"),
    [
        ("raises", "CUDA error: no kernel image is available", 209),
        ("raises with a number", "CUDA error: words of a later version", 214),
        ("raises nothing to say", "RuntimeError", None),
        ("computes wrongly", "wrong result of a matrix product", None),
    ],
)
def test_a_device_that_does_not_compute_hides_none_of_the_others(tmp_path, how, why, code) -> None:
    result = verify(tmp_path, devices=3, broken={1: how})
    assert result["devices"] == 3
    (failure,) = result["failures"]
    assert (failure["index"], failure["message"], failure.get("code")) == (1, why, code)


def test_a_device_without_a_name_is_no_failure(tmp_path: Path) -> None:
    result = verify(tmp_path, devices=2, broken={0: "has no name"})
    assert (result["names"], result["failures"]) == (["", "NVIDIA H100"], [])


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("Unexpected error from cudaGetDeviceCount() … Error 802: system not yet initialized", 802),
        ("No CUDA GPUs are available", 100),
        ("Found no NVIDIA driver on your system. Please check", 35),
        ("The NVIDIA driver on your system is too old (found version 11040).", 35),
        ("CUDA unknown error - this may be due to an incorrectly set up environment", 999),
        ("something that nobody knows", None),
    ],
)
def test_cuda_that_does_not_start_is_an_error_of_one_line(tmp_path, words, code) -> None:
    result = verify(tmp_path, devices=8, error=f"{words}\nmore")
    assert (result["error"], result["error_code"]) == (words, code)
    assert (result["available"], result["devices"], result["failures"]) == (False, 8, [])
    assert result["warnings"] == [f"CUDA initialization: {words} more"]
    assert result["arches"]


def test_warnings_are_kept_though_the_user_wants_none_or_exceptions(tmp_path: Path) -> None:
    for wish in ("ignore", "error"):
        result = verify(tmp_path, error="Error 802: x", PYTHONWARNINGS=wish)
        assert result["warnings"] == ["CUDA initialization: Error 802: x"]


def test_what_nvml_counts_is_not_taken_for_cuda(tmp_path: Path) -> None:
    result = verify(tmp_path, error="Error 802: x", PYTORCH_NVML_BASED_CUDA_CHECK="1")
    assert result["available"] is False


@pytest.mark.parametrize("hip", [None, "6.2.41133"])
def test_a_build_without_cuda_is_asked_nothing_more(tmp_path: Path, hip: str | None) -> None:
    result = verify(tmp_path, cuda=None, hip=hip, error="must not be an error")
    assert (result["cuda"], result["hip"], result["devices"]) == (None, hip, 0)
    assert "error" not in result


@pytest.mark.parametrize(
    ("text", "outcome", "error"),
    [
        ("raise ModuleNotFoundError('No module named torch', name='torch')", "missing", "No mod"),
        ("import package_that_is_not_there", "broken", "No module named 'package_that"),
        ("raise ImportError('libcudart.so.12: cannot open')", "broken", "libcudart.so.12: cannot"),
        ("raise OSError('libcublas.so.12: wrong ELF class\\n2')", "broken", "libcublas.so.12: wr"),
        ("", "broken", "module 'torch' has no attribute '__version__'"),
    ],
)
def test_no_pytorch_and_a_broken_one_are_answers(tmp_path, text, outcome, error) -> None:
    (tmp_path / "torch.py").write_text(text)
    result = run(tmp_path)
    assert (result["outcome"], result["error"][: len(error)]) == (outcome, error)
    assert "\n" not in result["error"]


def test_the_users_modules_are_never_the_guests(tmp_path: Path) -> None:
    """`cuda` is NVIDIA's package on PyPI; ours beside verify.py must not stand in for it."""
    (tmp_path / "torch.py").write_text("import cuda; raise ImportError(cuda.__file__)")
    (tmp_path / "cuda.py").touch()
    assert run(tmp_path)["error"] == str(tmp_path / "cuda.py")


def test_it_ends_with_who_asked(tmp_path: Path) -> None:
    """A device that hangs would keep it for ever, with the memory that it holds."""
    folder = tmp_path / "torch"
    folder.mkdir()
    hangs = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"
    (folder / "__init__.py").write_text(hangs)
    asks = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, {str(VERIFY)!r}], stdout=subprocess.PIPE)\n"
        "print(child.stdout.readline().decode(), flush=True)\n"
        "child.wait()\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    asker = subprocess.Popen([sys.executable, "-c", asks], stdout=subprocess.PIPE, env=environ)
    assert asker.stdout is not None
    pid = int(asker.stdout.readline())
    asker.kill()
    asker.communicate()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "it ends")
