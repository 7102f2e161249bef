"""Wait for NVML's events of the GPUs: the work of a child that lives as long as it hears.

It sleeps in the driver until something happens.  Whoever listens holds the GPUs open: the watch
ends it where one needs a reset, or is lost.  What happens is told to the watch, one JSON object a
line: {"gpu", "code", "count", "line", "reset"}.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence

from launcher.model.watch import GpusAtStart, ListedGpu
from launcher.process.fork import end_with, limit_files, write_all
from launcher.watch import nvml, roll_call
from launcher.watch.xid_news import Kind, XidNews

HEARS_NOTHING, BROKEN = 0, 1  # exit statuses

_DOUBLE_BIT, _XID = 0x2, 0x8  # nvmlEventType*
_ECC = 48  # the Xid that comes with a double-bit error
_NOBODY = 0xFFFFFFFF  # instead of an instance's number
_SETTLES = 1.0  # seconds: an Xid comes with others, and then the driver knows what it needs
_LONGEST_WAIT = 600.0  # seconds


class _Event(ctypes.Structure):
    """nvmlEventData_t."""

    _fields_ = (
        ("device", ctypes.c_void_p), ("type", ctypes.c_ulonglong), ("data", ctypes.c_ulonglong),
        ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint),
    )  # fmt: skip


class Ears:
    """NVML's event set, with the GPUs that it was given and can hear."""

    def __init__(self, gpus: Iterable[ListedGpu]) -> None:
        """Register.  Raises OSError, AttributeError where NVML does not work or is too old."""
        self._nvml = nvml.open_library()
        self._set = ctypes.c_void_p()
        nvml.check(self._nvml.nvmlEventSetCreate(ctypes.byref(self._set)))
        wanted = {gpu.uuid: gpu for gpu in gpus}
        self.gpus: dict[int, ListedGpu] = {}  # by the driver's handle
        indices = {gpu.index for gpu in wanted.values()}
        for index in range(nvml.count(self._nvml)):
            if index in indices:  # the others are not opened
                device = nvml.device(self._nvml, index)
                gpu = wanted.get(nvml.uuid(self._nvml, device))
                if gpu and self._register(device):
                    self.gpus[device.value or 0] = gpu

    def _register(self, device: ctypes.c_void_p) -> bool:
        """Return whether there is something to hear: not of a vGPU, in WSL, on a Jetson."""
        types = ctypes.c_ulonglong()
        if self._nvml.nvmlDeviceGetSupportedEventTypes(device, ctypes.byref(types)):
            return False
        heard = ctypes.c_ulonglong(types.value & (_DOUBLE_BIT | _XID))
        return bool(heard.value) and not self._nvml.nvmlDeviceRegisterEvents(
            device, heard, self._set
        )

    def wait(self, seconds: float) -> _Event | None:
        """Return the next event, or None after so long.  Raises OSError: 15 = a GPU is lost."""
        event = _Event()
        status = self._nvml.nvmlEventSetWait_v2(
            self._set, ctypes.byref(event), ctypes.c_uint(int(1000 * max(0.0, seconds)))
        )
        if status == nvml.TIMEOUT:
            return None
        nvml.check(status)
        return event

    def kind(self, event: _Event) -> tuple[Kind, bool] | None:
        """Return what happened where, and whether as an Xid; None where it is not ours."""
        gpu = self.gpus.get(event.device or 0)
        if gpu is None or not event.type & (_DOUBLE_BIT | _XID):
            return None
        place = (event.gpu_instance, event.compute_instance)
        if gpu.places and _NOBODY not in place and place not in gpu.places:
            return None  # another's MIG instance
        is_xid = bool(event.type & _XID)
        return Kind(gpu.index, event.data if is_xid else _ECC), is_xid

    def recovery(self, index: int) -> int | None:
        """Return what the driver says that a GPU needs."""
        handle = next(handle for handle, gpu in self.gpus.items() if gpu.index == index)
        return nvml.fields(self._nvml, ctypes.c_void_p(handle), (nvml.RECOVERY,))[0]


def listen(
    start: GpusAtStart,
    place: str,
    wanted: Sequence[ListedGpu],
    known: Iterable[Kind],
    parent: int,
    writer: int,
) -> int:
    """Tell `writer` of what happens to the GPUs `wanted`; return the exit status.

    Args:
        start: of the box.
        place: where it runs, a row of checks/facts/places.
        wanted: those of the start that are heard.
        known: Xids that the log has already.
        parent: the watch's pid: without it there is nobody to tell.
        writer: a descriptor.
    """
    if not end_with(parent):
        return BROKEN
    limit_files()
    roll_call.ask_as_the_start_did(start)
    try:
        ears = Ears(wanted)
        if not ears.gpus:
            return HEARS_NOTHING
        _hear(ears, place, XidNews(known, time.monotonic()), writer)
    except AttributeError:  # a driver without events
        return HEARS_NOTHING
    except OSError:
        return BROKEN
    return BROKEN


def _hear(ears: Ears, place: str, news: XidNews, writer: int) -> None:
    """Never returns.  Raises OSError where the driver does not go on."""
    while True:
        due = news.next_due()
        left = _LONGEST_WAIT if due is None else min(due - time.monotonic(), _LONGEST_WAIT)
        event = ears.wait(left)
        told = b""
        for kind, count in _settled(ears, event) if event else ():
            is_news = news.see(kind, count, time.monotonic())
            told += _told(ears, kind, count, place, is_news)
        for again in news.due(time.monotonic()):
            from launcher.text.xid import storm_line

            line = storm_line(*again.kind, again.count, again.seconds)
            told += _line(again.kind, 0, line, "")
        write_all(writer, told)  # at once: the first that needs a reset is the end of us


def _settled(ears: Ears, first: _Event) -> list[tuple[Kind, int]]:
    """Return what happened in a moment, each kind with how often, in its order.

    A double-bit error is told twice where the driver has both kinds of event.
    """
    xids, others = Counter[Kind](), Counter[Kind]()
    until = time.monotonic() + _SETTLES
    event: _Event | None = first
    while event:
        if seen := ears.kind(event):
            (xids if seen[1] else others)[seen[0]] += 1
        event = None
        if (left := until - time.monotonic()) > 0:
            with contextlib.suppress(OSError):  # the next wait says that a GPU is lost
                event = ears.wait(left)
    return list((xids | others).items())


def _told(ears: Ears, kind: Kind, count: int, place: str, is_news: bool) -> bytes:
    from launcher.text.xid import reset_reason, xid_line  # where there is something to say

    gpu = next(gpu for gpu in ears.gpus.values() if gpu.index == kind.gpu)
    recovery = ears.recovery(kind.gpu)
    line = xid_line(gpu, kind.code, recovery, place) if is_news else ""
    return _line(kind, count, line, reset_reason(gpu, kind.code, recovery, place))


def _line(kind: Kind, count: int, line: str, reset: str) -> bytes:
    told = {"gpu": kind.gpu, "code": kind.code, "count": count, "line": line, "reset": reset}
    return json.dumps(told).encode() + b"\n"
