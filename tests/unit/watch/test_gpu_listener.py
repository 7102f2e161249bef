"""The child that listens, as the watch holds it: whatever it does, nobody waits for it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from launcher.model.watch import GpusAtStart, ListedGpu
from launcher.process.fork import write_all
from launcher.watch import gpu_events, gpu_listener
from launcher.watch.gpu_listener import Heard, Listener
from testing.local_box import wait_until

START = GpusAtStart(30.0, (), 0, "", ())
GPUS = (ListedGpu("GPU-0", None, 0), ListedGpu("GPU-1", None, 1))
XID = {"gpu": 0, "code": 31, "count": 2, "line": "a line", "reset": ""}

Work = Callable[[int], int]


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Work], Listener]]:
    """Return a listener whose child does this; it is given its pipe."""
    made: list[Listener] = []

    def make(work: Work) -> Listener:
        monkeypatch.setattr(gpu_events, "listen", lambda *arguments: work(arguments[-1]))
        made.append(Listener(START, "docker"))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def tell(writer: int, *what: dict[str, object]) -> int:
    write_all(writer, b"".join(json.dumps(one).encode() + b"\n" for one in what))
    return 0


def sleep(writer: int) -> int:
    time.sleep(600)
    return 0


def test_what_it_tells_is_heard(ears) -> None:
    hears = ears(lambda writer: tell(writer, XID, {**XID, "gpu": 1}) or sleep(writer))
    hears.hear(GPUS, ())
    heard: list[Heard] = []
    wait_until(lambda: heard.extend(hears.read()) or len(heard) == 2, lambda: str(heard))
    assert heard == [Heard(0, 31, 2, "a line", ""), Heard(1, 31, 2, "a line", "")]


def test_half_a_line_waits_for_the_other_half(ears) -> None:
    line = json.dumps(XID).encode() + b"\n"
    reader, writer = os.pipe()
    hears = ears(sleep)
    hears._pipe = reader
    os.set_blocking(reader, False)
    os.write(writer, line[:9])
    assert hears.read() == []
    os.write(writer, line[9:])
    assert hears.read() == [Heard(**XID)]
    os.close(writer)
    os.close(reader)
    hears._pipe = None


def ended(hears: Listener) -> bool:
    hears.read()
    return hears.pipe is None


def test_a_driver_without_events_is_not_asked_again(ears, monkeypatch) -> None:
    monkeypatch.setattr(gpu_listener, "_PAUSE", 0.0)
    hears = ears(lambda writer: gpu_events.HEARS_NOTHING)
    hears.hear(GPUS, ())
    wait_until(lambda: ended(hears), "it ended")
    wait_until(lambda: hears.hear(GPUS, ()) or hears._deaf, "its status is known")
    hears.hear(GPUS, ())
    hears.hear(GPUS[:1], ())
    assert hears.pipe is None


def test_one_that_breaks_is_followed_by_another_later_and_later(ears) -> None:
    hears = ears(lambda writer: gpu_events.BROKEN)
    pauses = []
    for _ in range(3):
        hears._next_start = 0.0
        hears.hear(GPUS, ())
        wait_until(lambda: ended(hears), "it ended")
        wait_until(lambda: hears._reap() or not hears._gone, "its status is known")
        pauses.append(hears._pause)
        hears.hear(GPUS, ())
        assert hears.pipe is None  # not yet
    assert pauses == [60.0, 120.0, 240.0]


def test_one_that_hangs_is_ended_and_its_gpus_are_let_go(ears) -> None:
    hears = ears(sleep)
    hears.hear(GPUS, ())
    first = hears._pid
    hears.hear(GPUS, ())
    assert hears._pid == first  # the same: it goes on
    hears.hear(GPUS[:1], ())
    assert hears._pid not in (0, first)
    hears.hear((), ())
    assert hears.pipe is None
    wait_until(lambda: hears._reap() or not hears._gone, "nobody is left behind")
    with pytest.raises(ProcessLookupError):
        os.kill(first, signal.SIG_DFL)


def test_the_watch_it_belongs_to_may_be_gone_already(monkeypatch) -> None:
    """Between the fork and its request to die with it."""
    monkeypatch.setattr(gpu_events, "limit_files", lambda: os._exit(99))  # it would go on
    pid = os.fork()
    if not pid:
        try:
            os._exit(gpu_events.listen(START, "docker", GPUS, (), os.getppid() + 1, 1))
        finally:
            os._exit(98)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == gpu_events.BROKEN
