"""A log that nobody reads stops nobody: real pipes, files, sockets and terminals."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.process.pump import Pump
from testing.scripts import run_script

PIPE_SIZE = 65536


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):  # closed by the test
            os.close(fd)


def read_all(fd: int) -> bytes:
    """Return what is in a pipe now."""
    os.set_blocking(fd, False)
    text = b""
    try:
        while chunk := os.read(fd, 65536):
            text += chunk
    except BlockingIOError:
        pass
    return text


def test_what_is_said_arrives(pipe) -> None:
    pump = Pump(pipe[1])
    pump.say("one")
    pump.write(b"two\nthree\n")
    assert read_all(pipe[0]) == b"one\ntwo\nthree\n"
    assert not pump.pending()


def test_text_that_cannot_be_encoded_is_still_said(pipe) -> None:
    Pump(pipe[1]).say("a\udcffb")
    assert read_all(pipe[0]) == rb"a\xffb" + b"\n"


def test_a_full_pipe_does_not_block(pipe) -> None:
    pump = Pump(pipe[1], limit=10 * PIPE_SIZE)
    begin = time.monotonic()
    for number in range(4000):
        pump.say(f"{number:099}")
    assert time.monotonic() - begin < 5
    assert pump.pending()


def test_what_waited_arrives_later_whole_and_in_order(pipe) -> None:
    pump = Pump(pipe[1], limit=10 * PIPE_SIZE)
    lines = [f"{number:099}" for number in range(4000)]
    for line in lines:
        pump.say(line)
    received = b""
    while pump.pending():
        received += read_all(pipe[0])
        pump.flush()
    received += read_all(pipe[0])
    assert received.decode().splitlines() == lines


def test_what_does_not_fit_is_dropped_counted_and_owned_up_to(pipe) -> None:
    pump = Pump(pipe[1], limit=PIPE_SIZE)
    sent = 4000
    for number in range(sent):
        pump.say(f"{number:099}")
    received = b""
    while True:
        chunk = read_all(pipe[0])
        if not chunk:
            break
        received += chunk
        pump.flush()
    *lines, last = received.decode().splitlines()
    assert [int(line) for line in lines] == list(range(len(lines)))
    assert 0 < len(lines) < sent
    assert f"{sent - len(lines)} lines are missing here" in last


def test_it_owns_up_once(pipe) -> None:
    pump = Pump(pipe[1], limit=100)
    pump.say("longer than a hundred bytes" * 4)
    pump.flush()
    pump.say("short")
    pump.flush()
    lines = read_all(pipe[0]).splitlines()
    assert [line for line in lines if b"missing" in line] == lines[:1]


def test_the_memory_it_takes_is_bounded(pipe) -> None:
    pump = Pump(pipe[1], limit=PIPE_SIZE)
    for _ in range(1000):
        pump.write(b"x" * 999 + b"\n")
    assert sum(map(len, pump._queue)) <= PIPE_SIZE


def test_the_flag_is_not_shared_with_others_that_have_the_same_output(pipe) -> None:
    Pump(pipe[1])
    assert os.get_blocking(pipe[1])


def test_a_reader_that_has_gone_is_no_error(pipe) -> None:
    pump = Pump(pipe[1])
    os.close(pipe[0])
    pump.say("to nobody")
    pump.say("again")
    assert not pump.pending()


def test_flush_waits_for_a_slow_reader_as_long_as_it_is_told(pipe) -> None:
    pump = Pump(pipe[1], limit=10 * PIPE_SIZE)
    pump.write(b"x" * (2 * PIPE_SIZE))
    begin = time.monotonic()
    pump.flush(timeout=0.2)
    assert 0.1 < time.monotonic() - begin < 5
    assert pump.pending()


def test_a_file_is_continued_not_overwritten(tmp_path: Path) -> None:
    # As `entrypoint > file`: the shell has written, we write, the shell goes on.
    code = """
        import os, sys
        from launcher.process.pump import Pump
        os.write(1, b"before\\n")
        pump = Pump(1)
        pump.say("ours")
        os.write(1, b"after\\n")
        pump.say("ours again")
    """
    path = tmp_path / "log"
    with path.open("wb") as log:
        assert run_script(code, stdout=log).returncode == 0
    assert path.read_text() == "before\nours\nafter\nours again\n"


def test_a_socket_does_not_block_either() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pump = Pump(ours.fileno(), limit=100 * PIPE_SIZE)
        begin = time.monotonic()
        for _ in range(3000):
            pump.write(b"x" * 999 + b"\n")
        assert time.monotonic() - begin < 5
        assert pump.pending()
        theirs.settimeout(10)
        assert theirs.recv(4) == b"xxxx"


def test_a_terminal_is_written_to() -> None:
    control, terminal = pty.openpty()
    try:
        Pump(terminal).say("hello")
        assert os.read(control, 100).strip() == b"hello"
    finally:
        os.close(control)
        os.close(terminal)
