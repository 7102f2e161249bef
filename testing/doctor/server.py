"""Run the doctor again and again, each time in a process that is forked from one that imported all.

Importing is most of what a scenario costs.  The loader reads LD_LIBRARY_PATH as a program begins,
and a fork begins none: so all trees of one server stand under the same path, one after the other.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.detect import nvml  # noqa: F401 - what asks the driver imports it late
from launcher.process import fork
from testing.doctor import run_doctor, start_box

PATIENCE = 60.0  # seconds, for each
MODULES = {"run_doctor": run_doctor.run, "start_box": start_box.run}
PROJECT = Path(__file__).parents[2]
# What a program reads once, when it begins.
AT_ITS_BEGIN = ("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH")


class Server:
    """One process that has imported the doctor.  It plays one scenario at a time."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Start it; `environ` is that of its scenarios, as far as a program reads it once.

        The folders that LD_LIBRARY_PATH names have to be there: the loader never looks again.
        """
        self._environ = dict(environ)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "testing.doctor.server"],
            cwd=PROJECT,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def can(self, environ: Mapping[str, str]) -> bool:
        """Say whether a program with this environment begins as the server did."""
        return all(environ.get(name) == self._environ.get(name) for name in AT_ITS_BEGIN)

    def run(
        self, module: str, arguments: Sequence[str], environ: Mapping[str, str], outputs: Path
    ) -> subprocess.CompletedProcess[str]:
        """Do what `python -m testing.doctor.MODULE ARGUMENTS…` does; `outputs` is a folder.

        Raises TimeoutExpired.
        """
        assert self._process.stdin
        assert self._process.stdout
        asked = [module, list(arguments), dict(environ), str(outputs)]
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the server of {module} has ended"
        if (status := json.loads(answer)) is None:
            raise subprocess.TimeoutExpired([module, *arguments], PATIENCE)
        out, err = ((outputs / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess([module, *arguments], status, out, err)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve() -> None:
    for line in sys.stdin:
        module, arguments, environ, outputs = json.loads(line)
        pid = fork.fork(lambda: _work(module, arguments, environ, outputs), core=True)  # noqa: B023
        print(json.dumps(_status(pid)), flush=True)


def _work(module: str, arguments: list[str], environ: dict[str, str], outputs: str) -> int:
    for number, name in ((0, os.devnull), (1, f"{outputs}/stdout"), (2, f"{outputs}/stderr")):
        opened = os.open(name, (os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environ)
    try:
        return MODULES[module](arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _status(pid: int) -> int | None:
    """Return how it ended, as subprocess says it; None where it had to be ended."""
    ending = os.pidfd_open(pid)
    try:
        in_time = bool(select.select([ending], [], [], PATIENCE)[0])
        if not in_time:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(ending)
    return os.waitstatus_to_exitcode(status) if in_time else None


if __name__ == "__main__":
    _serve()
