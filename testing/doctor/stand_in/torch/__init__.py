"""A stand-in for PyTorch: it answers from the JSON file that $STAND_IN_TORCH names.

It counts devices as PyTorch does, by asking libcuda.so.1; what PyTorch would then do with them (its
build, its warnings, how a kernel fails) is described:

    version, cuda, hip, arches          of the build; "cuda": null is one without CUDA
    import: "missing" | "crash" | "hang" | the text of an ImportError
    available: false, warning: text     what is_available() says and warns of
    devices: N                          at most so many are counted
    init: text                          of the error that torch.cuda.init() raises
    kernel: {"0": text | "wrong"}       how a computation on a device ends
    compute: "crash" | "hang"

What torch.distributed does is in `distributed`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
from types import SimpleNamespace

with open(os.environ["STAND_IN_TORCH"], encoding="utf-8") as _stream:
    _described = json.load(_stream)


def _suffer(what: str | None) -> None:
    if what == "crash":
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":  # whoever asked may be killed for waiting: prctl(2), PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    while what == "hang":
        signal.pause()


_suffer(_described.get("import"))
if _described.get("import") == "missing":
    raise ModuleNotFoundError("No module named 'torch'", name="torch")
if "import" in _described:
    raise ImportError(_described["import"])

__version__ = _described.get("version", "2.6.0+cu124")
version = SimpleNamespace(cuda=_described.get("cuda", "12.4"), hip=_described.get("hip"))
_ARCHES = _described.get("arches", ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"])
_C = SimpleNamespace(_cuda_getArchFlags=lambda: " ".join(_ARCHES))


class _Cuda:
    """torch.cuda."""

    def __init__(self) -> None:
        self._warned = False

    def is_available(self) -> bool:
        if "warning" in _described and not self._warned:
            import warnings

            self._warned = True  # PyTorch says it once per process
            warnings.warn(_described["warning"], stacklevel=2)
        return bool(_described.get("available", self.device_count() > 0))

    def device_count(self) -> int:
        if version.cuda is None and version.hip is None:
            return 0
        try:
            driver = ctypes.CDLL("libcuda.so.1")
        except OSError:
            return 0
        count = ctypes.c_int()
        if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
            return 0
        return min(count.value, int(_described.get("devices", count.value)))

    def init(self) -> None:
        if version.cuda is None and version.hip is None:
            raise AssertionError("Torch not compiled with CUDA enabled")
        if "init" in _described:
            raise RuntimeError(_described["init"])
        if not self.is_available():
            raise RuntimeError("No CUDA GPUs are available")

    def get_device_name(self, index: int) -> str:
        name = ctypes.create_string_buffer(256)
        ctypes.CDLL("libcuda.so.1").cuDeviceGetName(name, 256, index)
        return name.value.decode()

    nccl = SimpleNamespace(version=lambda: (2, 21, 5))

    def set_device(self, index: int) -> None:
        pass

    def synchronize(self) -> None:
        pass


cuda = _Cuda()
int32 = "int32"


class _Ones:
    """A matrix of ones: as much of a tensor as a matrix product and its sum need."""

    def __init__(self, rows: int, columns: int, wrong: bool) -> None:
        self._value = float(rows * columns)
        self._inner = columns
        self._wrong = wrong

    def __matmul__(self, other: _Ones) -> _Ones:
        self._value *= self._inner
        return self

    def sum(self) -> float:
        return self._value - 1.0 if self._wrong else self._value


def ones(rows: int, columns: int, *, device: str) -> _Ones:
    _suffer(_described.get("compute"))
    outcome = _described.get("kernel", {}).get(device.partition(":")[2])
    if outcome not in (None, "wrong"):
        raise RuntimeError(outcome)
    return _Ones(rows, columns, outcome == "wrong")


class Numbers:
    """A tensor that is a pattern, so many times, plus a number: as much as sums of it need."""

    def __init__(self, times: float, plus: float) -> None:
        self.times, self.plus = times, plus

    def __mod__(self, period: int) -> Numbers:
        return self

    def __add__(self, number: float) -> Numbers:
        return Numbers(self.times, self.plus + number)

    def __sub__(self, number: float) -> Numbers:
        return self + -number

    def __mul__(self, number: float) -> Numbers:
        return Numbers(self.times * number, self.plus * number)

    def zero_(self) -> None:
        self.times, self.plus = 0, 0

    def sum(self) -> float:
        return self.plus

    def float(self) -> Numbers:
        return self


def arange(count: int, *, dtype: str, device: str) -> Numbers:
    return Numbers(1, 0)


def full(shape: tuple[int, ...], number: float, *, device: str) -> Numbers:
    return Numbers(0, number)


def equal(one: Numbers, other: Numbers) -> bool:
    return (one.times, one.plus) == (other.times, other.plus)
