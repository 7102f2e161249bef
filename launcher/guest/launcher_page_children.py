"""The children that know what the page shows: commands of the launcher's, and the GPU sampler.

The driver may hang or crash in any of them, and Jupyter must not.  There is never a second one of
a kind: where the first hangs in the driver, it would hang beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from typing import Any

from tornado.web import HTTPError

DEADLINE = 30.0  # seconds, of a command
PATIENT = {"doctor": 90.0}  # it tries CUDA and PyTorch
LINGER = 45.0  # seconds that the sampler runs on after the last question
FIRST = 1.0  # seconds that the first question waits for the first sample
LATE = 7.0  # seconds without a sample after which the driver is said to hang; it gives one in 2
AGAIN = 10.0  # seconds until a sampler that crashed is started again
REMEMBERED = 600.0  # seconds of history
KEPT = ("utilization", "memory_used", "temperature", "power")  # of each GPU, for so long
_LONGEST_LINE = 1 << 20  # bytes: sixteen GPUs with all their processes
_PIPE, _NONE = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
_SAMPLER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpu_sampler.py")


class Commands:
    """Runs `launcher` commands, each once at a time: who asks meanwhile is given that answer."""

    def __init__(self, launcher: str) -> None:
        self._launcher = launcher
        self._running: dict[tuple[str, ...], asyncio.Task[str]] = {}
        self._said: dict[tuple[str, ...], bytearray] = {}

    def so_far(self, words: tuple[str, ...]) -> str | None:
        """Return the whole lines that a command has printed; None where it does not run."""
        task = self._running.get(words)
        if task is None or task.done():
            return None
        return self._said.get(words, b"").decode(errors="replace").rpartition("\n")[0]

    async def output(self, words: tuple[str, ...]) -> str:
        """Return what a command prints.  Raises HTTPError: 503 it failed, 504 it hangs."""
        deadline = PATIENT.get(words[0], DEADLINE)
        task = self._running.get(words)
        if task is None or task.done():
            task = self._running[words] = asyncio.create_task(self._run(words, deadline))
            task.add_done_callback(_take_error)
        try:
            return await asyncio.wait_for(asyncio.shield(task), deadline + 1)
        except asyncio.TimeoutError:  # another one than TimeoutError in Python 3.10
            raise HTTPError(504, f"launcher {words[0]}: no answer in {deadline:g} s") from None

    async def _run(self, words: tuple[str, ...], deadline: float) -> str:
        argv = [self._launcher, *words]
        try:
            child = await asyncio.create_subprocess_exec(
                *argv, stdin=_NONE, stdout=_PIPE, stderr=_PIPE
            )
        except OSError as err:
            raise HTTPError(503, f"cannot run {argv[0]}: {err.strerror}") from None
        said = self._said[words] = bytearray()
        try:
            complained = await asyncio.wait_for(_hear(child, said), deadline)
        except asyncio.TimeoutError:
            await _end(child)
            raise HTTPError(504, f"launcher {words[0]}: ended after {deadline:g} s") from None
        finally:
            del self._said[words]
        if not said.strip():  # status and doctor print, and end with what they found
            raise HTTPError(503, complained.decode(errors="replace").strip()[-500:])
        return said.decode(errors="replace")


async def _hear(child: asyncio.subprocess.Process, said: bytearray) -> bytes:
    """Add what it prints to `said` until it ends; return what it complained of."""
    assert child.stdout is not None
    assert child.stderr is not None
    complaints = asyncio.create_task(child.stderr.read())
    while chunk := await child.stdout.read(65536):
        said += chunk
    await child.wait()
    return await complaints


class Sampler:
    """One child for all who look, from the first question until nobody asks any more."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._sample: dict[str, Any] | None = None
        self._at = self._asked = 0.0  # when the last sample came, and the last question
        self._not_before = 0.0
        self._history: deque[tuple[float, list[list[float | None]]]] = deque()

    def history(self) -> dict[str, Any]:
        """Return the last ten minutes, as far as somebody looked: seconds ago, and of each GPU the
        values of KEPT.
        """
        now = asyncio.get_running_loop().time()
        return {"keys": KEPT, "samples": [[round(now - at, 1), gpus] for at, gpus in self._history]}

    def _keep(self, sample: dict[str, Any]) -> None:
        values = [[gpu.get(key) for key in KEPT] for gpu in sample["gpus"]]
        self._history.append((self._at, values))
        while self._history[0][0] < self._at - REMEMBERED:
            self._history.popleft()

    async def latest(self, patience: float = FIRST) -> dict[str, Any]:
        """Return {"gpus": […], "fault": None or one line, "age": seconds or None}.

        Args:
            patience: seconds that the first sample is waited for, where there is none yet.
        """
        now = self._asked = asyncio.get_running_loop().time()
        if (self._task is None or self._task.done()) and now >= self._not_before:
            self._sample, self._at = None, now
            self._came = asyncio.Event()
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_take_error)
        if self._sample is None and now - self._at < patience:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._came.wait(), patience)
        age = asyncio.get_running_loop().time() - self._at
        if self._task is None or self._task.done():
            return _fault("the driver crashed, or its sampler could not run: launcher doctor")
        if age > LATE:
            return _fault(f"the driver has not answered for {age:.0f} s: launcher doctor")
        if self._sample is None:
            return _fault("waiting for the driver")
        return {**self._sample, "age": round(age, 1)}

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", _SAMPLER, stdin=_PIPE, stdout=_PIPE, stderr=_NONE,
            limit=_LONGEST_LINE,
        )  # fmt: skip
        assert child.stdout is not None
        reading = asyncio.create_task(child.stdout.readline())
        try:
            while (left := self._asked + LINGER - loop.time()) > 0:
                done, _ = await asyncio.wait({reading}, timeout=left)
                if not done:
                    continue
                line = reading.result()
                if not line:
                    self._not_before = loop.time() + AGAIN
                    break
                self._sample, self._at = json.loads(line), loop.time()
                self._keep(self._sample)
                self._came.set()
                reading = asyncio.create_task(child.stdout.readline())
        finally:
            reading.cancel()
            self._came.set()
            await _end(child)


def _fault(text: str) -> dict[str, Any]:
    return {"gpus": [], "fault": text, "age": None}


async def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    await child.wait()  # in the driver it may never end: so there is no second one


def _take_error(task: asyncio.Task[Any]) -> None:
    """Take what nobody waits for any more: asyncio would log it as lost."""
    if not task.cancelled():
        task.exception()
