"""A container under test, started with the docker command line that users type."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from testing.container import api, json_log
from testing.container.engine import DOCKER, SOCKET, Docker, checked, poll
from testing.container.terminal import Terminal

# From its first rule to its third and last: it is there whole, or not yet.
BANNER = re.compile(r"(═{80}\r?\n)(?s:.*?)\1(?s:.*?)\1")
# Importing PyTorch is two fifths of what a box computes at its start, so that only tests of it want
# it: those with PYTORCH_CHECKED among their options.
_QUICKLY = {"LAUNCHER_CHECK_PYTORCH": "off"}
PYTORCH_CHECKED = ("-e", "LAUNCHER_CHECK_PYTORCH=on")
# Nor do they need a process every ten seconds that asks for the health of each box.  Tests of it
# have an option that says how often.
_HEALTH = "--health-"
_UNASKED = ("--no-healthcheck",)
# For a test of which no part is about notebooks: importing Jupyter is half of what is left.
SSH_ALONE = ("-e", "LAUNCHER_SERVICES=ssh")
_SHOWN = 20_000  # characters of a log, where a test fails
_numbers = itertools.count(1)


class Box:
    """One container, running or not."""

    def __init__(self, docker: Docker, name: str) -> None:
        self.docker = docker
        self.name = name

    def logs(self) -> str:
        """Return what `docker logs` shows, both streams in the order they were written."""
        if self._log_file:
            with suppress(FileNotFoundError):  # it is gone with its container
                return json_log.read(self._log_file)
        return api.logs(SOCKET, self.name, terminal=self._has_terminal)

    @cached_property
    def _log_file(self) -> Path | None:
        """Return the file that `docker logs` reads; None where that is several, or none."""
        found = api.inspect(SOCKET, self.name)
        if found is None or found["HostConfig"]["LogConfig"] != json_log.DEFAULT:
            return None
        return Path(found["LogPath"])

    @cached_property
    def _has_terminal(self) -> bool:
        found = api.inspect(SOCKET, self.name)
        return found is not None and bool(found["Config"]["Tty"])

    def wait_for_log(self, pattern: str | re.Pattern[str], timeout: float = 60) -> re.Match[str]:
        """Return the first match of `pattern` in the log; fail where it ends without it."""
        found: re.Match[str] | None = None
        pid, size = 0, None

        def settled() -> bool:
            nonlocal found, pid, size
            now = self._log_size()
            if now is not None and now == size and Path("/proc", str(pid)).exists():
                return False  # it runs, and has said nothing more
            state = self.state()  # asked first: what it wrote before its end counts
            pid, size = state["Pid"], now
            found = re.search(pattern, self.logs())
            return found is not None or not state["Running"]

        in_time = poll(settled, timeout=timeout)
        if found is None:
            why = "before the container ended" if in_time else f"within {timeout:g} s"
            shown = self.logs()[-_SHOWN:]  # that of a test of floods would hide all others' results
            raise AssertionError(f"no {pattern!r} {why}; the log's end:\n{shown}")
        return found

    def _log_size(self) -> int | None:
        """Return how many bytes its log has; None where that is not to be seen."""
        with suppress(FileNotFoundError):
            return self._log_file.stat().st_size if self._log_file else None
        return None

    def wait_for_banner(self, timeout: float = 90) -> str:
        """Wait until the banner is printed; return it."""
        return self.wait_for_log(BANNER, timeout)[0]

    def exec(
        self,
        *command: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        """Do what `docker exec` does, as root unless `user` is given."""
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        given = None if stdin is None else stdin.encode()
        argv = ["docker", "exec", self.name, *command]
        try:
            code, *outputs = api.execute(
                SOCKET, self.name, command, user=user or "", env=variables, stdin=given,
                timeout=timeout,
            )  # fmt: skip
        except TimeoutError as err:
            raise subprocess.TimeoutExpired(argv, timeout) from err
        done = subprocess.CompletedProcess(argv, code, *map(_as_text, outputs))
        return checked(done) if check else done

    def port(self, container_port: int) -> int:
        """Return the port of this machine that reaches `container_port`."""
        published = self.inspect()["NetworkSettings"]["Ports"].get(f"{container_port}/tcp")
        assert published, f"port {container_port} of {self.name} is not published"
        return int(published[0]["HostPort"])

    def inspect(self) -> dict[str, Any]:
        """Return what `docker inspect` shows."""
        found = api.inspect(SOCKET, self.name)
        assert found is not None, f"there is no container {self.name}"
        return found

    def exists(self) -> bool:
        """Say whether it is still there: `docker run --rm` takes its container away."""
        return api.inspect(SOCKET, self.name) is not None

    def is_running(self) -> bool:
        return bool(self.state()["Running"])

    def exit_code(self) -> int:
        return int(self.state()["ExitCode"])

    def state(self) -> dict[str, Any]:
        """Return `.State` of `docker inspect`."""
        state: dict[str, Any] = self.inspect()["State"]
        return state

    def health(self) -> str:
        """Return starting, healthy or unhealthy, as `docker ps` shows it."""
        return str(self.state()["Health"]["Status"])

    def wait(self, timeout: float = 60) -> int:
        """Wait for the container to end; return its exit code."""
        assert api.wait(SOCKET, self.name, timeout), f"it still runs after {timeout:g} s"
        return self.exit_code()

    def stop(self, *options: str) -> float:
        """Run `docker stop`; return the seconds it took."""
        begin = time.monotonic()
        self.docker("stop", *options, self.name)
        return time.monotonic() - begin

    def start(self) -> None:
        api.act(SOCKET, self.name, "start")

    def restart(self) -> None:
        api.act(SOCKET, self.name, "restart")

    def kill(self, signal: str) -> None:
        api.act(SOCKET, self.name, f"kill?signal={signal}")

    def remove(self) -> None:
        api.remove(SOCKET, self.name)


class Boxes:
    """Starts containers of one image, and removes them at the end."""

    def __init__(self, docker: Docker, image: str) -> None:
        self.docker = docker
        self.image = image
        self.running: list[Box] = []
        self.said: list[str] = []  # the logs of those that were removed
        self._terminals: list[Terminal] = []

    def __call__(
        self, *options: str, command: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Box:
        """Run `docker run -d OPTIONS… IMAGE COMMAND…`.

        Where the options say nothing of ports or networks, 8888 and 22 are published on free ports;
        where they say nothing of its health, Docker does not ask for it.
        """
        box = self._new_box()
        variables = _variables({**({} if command else _QUICKLY), **(env or {})})
        probes = () if any(option.startswith(_HEALTH) for option in options) else _UNASKED
        settings = ["--name", box.name, *_ports(options), *probes, *variables, *options]
        self.docker("run", "--detach", *settings, self.image, *command)
        return box

    def run(
        self,
        *command: str,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `docker run --rm [-i] OPTIONS… IMAGE COMMAND…` to its end, its two outputs apart."""
        done = subprocess.run(
            self._foreground(["-i"] if stdin is not None else [], options, env, command),
            env=self.docker.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        self.said.append(done.stderr.decode(errors="replace"))
        return done

    def terminal(
        self, *command: str, options: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> Terminal:
        """Start `docker run --rm -it OPTIONS… IMAGE COMMAND…` in a terminal."""
        run = self._foreground(["-i", "-t"], options, env, command)
        self._terminals.append(Terminal(run, self.docker.environment))
        return self._terminals[-1]

    def _foreground(
        self,
        mode: Sequence[str],
        options: Sequence[str],
        env: Mapping[str, str] | None,
        command: Sequence[str],
    ) -> list[str]:
        settings = ["--name", self._new_box().name, *mode, *_variables(env), *options]
        return [DOCKER, "run", "--rm", *settings, self.image, *command]

    def _new_box(self) -> Box:
        """Name a container; noted first: one that fails to start is removed all the same."""
        box = Box(self.docker, f"pcl-{os.getpid()}-{next(_numbers)}")
        self.running.append(box)
        return box

    def remove_all(self) -> None:
        while self._terminals:
            self._terminals.pop().close()
        while self.running:
            box = self.running.pop()
            self.said.append(box.logs())
            box.remove()


@contextmanager
def boxes(docker: Docker, image: str) -> Iterator[Boxes]:
    """Start containers in the block, and leave none behind."""
    started = Boxes(docker, image)
    try:
        yield started
    finally:
        started.remove_all()


def _as_text(output: bytes) -> str:
    """Return it as `subprocess` does where text is asked for: any end of a line is a newline."""
    return output.decode().replace("\r\n", "\n").replace("\r", "\n")


def _variables(env: Mapping[str, str] | None) -> list[str]:
    return [part for name, value in (env or {}).items() for part in ("-e", f"{name}={value}")]


def _ports(options: Sequence[str]) -> list[str]:
    decided = ("-p", "--publish", "-P", "--network", "--net")
    if any(option.split("=")[0] in decided for option in options):
        return []
    return ["-p", "127.0.0.1::8888", "-p", "127.0.0.1::22"]
