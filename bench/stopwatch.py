"""Start a contender and note when each thing was first seen.  One loop, no threads.

A port that is closed refuses at once and costs nobody anything; once it accepts, one request
is sent and its answer waited for, so a service is never asked twice while it starts.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable

from bench.contenders import Start
from bench.processes import end, with_descendants

TICK = 0.002  # seconds between two tries of sshd's port
_JUPYTER_TICK = 0.005
_PATIENCE = 60.0


class Endpoint:
    """A port, what to say to it, and what a good answer starts with."""

    def __init__(
        self, port: int, request: bytes, answer: bytes, every: float, host: str = "127.0.0.1"
    ) -> None:
        self.answered: float | None = None
        self._address = (host, port)
        self._request, self._answer, self._every = request, answer, every
        self._connection: socket.socket | None = None
        self._next_try = 0.0

    def look(self) -> None:
        """Try to connect, or see whether the answer has come; never waits."""
        if self.answered is not None:
            return
        if self._connection is None:
            self._connect()
        elif select.select([self._connection], [], [], 0)[0]:
            self._read()

    def fileno(self) -> int | None:
        return self._connection.fileno() if self._connection else None

    def _connect(self) -> None:
        if time.monotonic() < self._next_try:
            return
        try:
            self._connection = socket.create_connection(self._address, timeout=1.0)
            self._connection.sendall(self._request)
        except OSError:
            self._retry()

    def _read(self) -> None:
        assert self._connection is not None
        data = b""
        with contextlib.suppress(OSError):
            data = self._connection.recv(256)
        now = time.monotonic()
        good = data.startswith(self._answer)
        self._retry()
        if good:
            self.answered = now

    def _retry(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None
        self._next_try = time.monotonic() + self._every


class Run:
    """A contender that runs, from its fork to its end."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.lines: list[tuple[float, str]] = []  # when each line of its log came
        self._partial = b""
        self.endpoints = {
            "jupyter": Endpoint(
                start.jupyter_port,
                b"GET /api HTTP/1.0\r\nHost: localhost\r\n\r\n",
                b"HTTP/1.1 200",
                _JUPYTER_TICK,
            )
        }
        if start.ssh_port:
            self.endpoints["sshd"] = Endpoint(start.ssh_port, b"", b"SSH-2.0", TICK)
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            start.argv,
            env=dict(start.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._log = self.process.stdout.fileno()
        os.set_blocking(self._log, False)

    @property
    def pid(self) -> int:
        return self.process.pid

    # --- seeing ---

    def wait_for(self, done: Callable[[], bool], *, looking: tuple[str, ...] = ()) -> None:
        """Look at the log and at the named endpoints until `done()`.

        Raises RuntimeError with the end of its log where it ends, or takes too long.
        """
        deadline = time.monotonic() + _PATIENCE
        while not done():
            if time.monotonic() > deadline or self._has_ended():
                raise RuntimeError(f"{self.start.argv} did not get there:\n{self.tail()}")
            for name in looking:
                self.endpoints[name].look()
            self._wait(TICK, looking)

    def read_for(self, seconds: float) -> None:
        """Keep the log flowing for a while."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._wait(left, ())

    def seconds_to(self, name: str) -> float:
        answered = self.endpoints[name].answered
        assert answered is not None
        return answered - self.began

    def seconds_to_first_line(self) -> float:
        return self.lines[0][0] - self.began

    def seconds_to_banner(self) -> float | None:
        """Return when the banner's last line came, or None while it has not."""
        if self.start.banner_file is None or not self.start.banner_file.exists():
            return None
        missing = self.start.banner_file.read_text().splitlines()
        for came, line in self.lines:  # a program's own line may have come in between
            if line == missing[0]:
                missing.pop(0)
            if not missing:
                return came - self.began
        return None

    def tail(self) -> str:
        return "\n".join(f"    {line}" for _, line in self.lines[-15:])

    def _wait(self, timeout: float, looking: tuple[str, ...]) -> None:
        """Sleep until something can be read, at most `timeout` seconds; read the log."""
        poll = select.poll()
        poll.register(self._log, select.POLLIN)
        for name in looking:
            if (fd := self.endpoints[name].fileno()) is not None:
                poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(timeout * 1000):
            if fd == self._log:
                self._read_log()

    def _read_log(self) -> None:
        now = time.monotonic()
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._log, 1 << 16)
        if not data:
            time.sleep(TICK)  # its end: poll would return at once for ever
        *whole, self._partial = (self._partial + data).split(b"\n")
        self.lines += [(now, line.decode(errors="replace")) for line in whole]

    # --- ending ---

    def _has_ended(self) -> bool:
        """Say so without reaping it: `stop` still needs its pid."""
        how = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, how) is not None

    def stop(self) -> float:
        """Send SIGTERM; return the seconds until it has exited.  Ends what it left behind."""
        everybody = with_descendants(self.pid)
        exited = os.pidfd_open(self.pid)  # subprocess would look every 50 ms only
        try:
            asked = time.monotonic()
            self.process.send_signal(signal.SIGTERM)
            poll = select.poll()
            poll.register(exited, select.POLLIN)
            poll.register(self._log, select.POLLIN)
            while exited not in (ready := dict(poll.poll(_PATIENCE * 1000))):
                if not ready:
                    raise RuntimeError(f"{self.start.argv} did not stop:\n{self.tail()}")
                self._read_log()
            took = time.monotonic() - asked
        finally:
            os.close(exited)
            end(everybody)
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
        return took
