"""A box that runs on this machine: `python entrypoint.py` with its own folders and free ports."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import websocket

T = TypeVar("T")

ROOT = Path(__file__).parents[1]
ENTRYPOINT = (sys.executable, "-I", str(ROOT / "entrypoint.py"))
LAUNCHER = (sys.executable, "-I", "-m", "launcher.cli.main")
USER = pwd.getpwuid(os.geteuid()).pw_name


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on now."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(server.getsockname()[1]) for server in servers]


def wait_until(seen: Callable[[], T], what: str | Callable[[], str], timeout: float = 30.0) -> T:
    """Return what `seen` returns once that is true; fail when `timeout` seconds did not do."""
    deadline = time.monotonic() + timeout
    while not (found := seen()):
        if time.monotonic() > deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {timeout:g} s: {said}")
        time.sleep(0.02)
    return found


class Box:
    """One run of the entrypoint, and the ways in that its banner prints."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self.directory = directory
        self.jupyter_port, self.ssh_port = free_ports(2)
        (directory / "ws").mkdir(parents=True, exist_ok=True)
        self.env = {
            "PATH": os.environ["PATH"],
            "NB_USER": USER,
            "WORKSPACE": str(directory / "ws"),
            "LAUNCHER_STATE_DIR": str(directory / "state"),
            "LAUNCHER_RUN_DIR": str(directory / "run"),
            "LAUNCHER_KEYS_DIR": str(directory / "keys"),
            "LAUNCHER_LISTEN": "127.0.0.1",
            "LAUNCHER_PYTHON": sys.executable,
            "JUPYTER_PORT": str(self.jupyter_port),
            "SSH_PORT": str(self.ssh_port),
            # The developer's own configuration is none of the test's business.
            "JUPYTER_CONFIG_DIR": str(directory / "jupyter"),
            "JUPYTER_DATA_DIR": str(directory / "jupyter"),
            "IPYTHONDIR": str(directory / "ipython"),
            **env,
        }
        self.lines: list[tuple[float, str]] = []  # (seconds after the start, line)

    # --- running ---

    def start(self, stdout: int | None = None, command: Sequence[str] = ()) -> None:
        """Start it; what it prints is read as it comes, or goes to `stdout`."""
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*ENTRYPOINT, *command],
            env=self.env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if stdout is None else stdout,
            stderr=subprocess.STDOUT,
        )
        self.lines.clear()
        if stdout is None:
            self._reader = threading.Thread(target=self._read)
            self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = line.decode(errors="surrogateescape").rstrip("\n")
            self.lines.append((time.monotonic() - self.started, text))

    @property
    def log(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def wait_for(self, pattern: str, timeout: float = 60.0) -> re.Match[str]:
        """Return the first match in what was printed; fail when the box ends without it."""
        found: re.Match[str] | None = None

        def settled() -> bool:
            nonlocal found
            running = self.process.poll() is None  # asked first: its last words count
            found = re.search(pattern, self.log, re.MULTILINE)
            return found is not None or not running

        wait_until(settled, lambda: f"{pattern!r} in\n{self.log}", timeout)
        assert found, f"ended with {self.process.poll()} without {pattern!r}:\n{self.log}"
        return found

    def wait_for_banner(self) -> str:
        """Return the banner, once it is there whole."""
        return self.wait_for(r"^═{80}\n Ready[^═]*\n═{80}\n[^═]*\n═{80}$")[0]

    def wait(self, timeout: float = 30.0) -> int:
        """Return the exit status, and what was printed up to the end is in the log."""
        status = self.process.wait(timeout)
        if self.process.stdout:
            self._reader.join(10)
        return status

    def stop(self) -> tuple[int, float]:
        """Ask it to stop; return its exit status and how many seconds it took."""
        begin = time.monotonic()
        self.process.terminate()
        return self.wait(), time.monotonic() - begin

    def kill(self) -> None:
        """End it and all that it started, whatever state it is in."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.wait()

    def processes(self) -> list[int]:
        """Return every process that is of this box, by its folder in arguments or environment."""
        mark = os.fsencode(self.directory)
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
            except OSError:
                continue
            if mark in text:
                found.append(int(path.name))
        return found

    # --- the command line ---

    def launcher(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `launcher ARGUMENTS…` beside the box, as `docker exec` does."""
        return subprocess.run(
            [*LAUNCHER, *arguments],
            env=self.env,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=60,
        )

    # --- Jupyter, by the printed URL ---

    @property
    def url(self) -> str:
        return self.wait_for(r"^ +(http://\S+)$")[1]

    @property
    def token(self) -> str:
        return parse_qs(urlsplit(self.url).query)["token"][0]

    def get(self, path: str, token: str | None = None) -> int:
        """Return the status of GET `path`."""
        return self._request("GET", path, token)[0]

    def _request(
        self, method: str, path: str, token: str | None, body: object = None
    ) -> tuple[int, bytes]:
        address = urlsplit(self.url)
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{address.scheme}://{address.netloc}{path}", data=data, method=method
        )
        if token is not None:
            request.add_header("Authorization", f"token {token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _websocket(self, path: str) -> websocket.WebSocket:
        address = urlsplit(self.url)
        header = [f"Authorization: token {self.token}"]
        return websocket.create_connection(
            f"ws://{address.netloc}{path}", header=header, timeout=60
        )

    def start_kernel(self) -> str:
        """Start a Python kernel; return its id."""
        status, answer = self._request("POST", "/api/kernels", self.token, {"name": "python3"})
        assert status == 201, answer
        return str(json.loads(answer)["id"])

    def shut_down_kernel(self, kernel: str) -> None:
        status, answer = self._request("DELETE", f"/api/kernels/{kernel}", self.token)
        assert status == 204, answer

    def run_in_kernel(self, kernel: str, code: str) -> str:
        """Return what a cell prints, as a notebook would get it."""
        with closing(self._websocket(f"/api/kernels/{kernel}/channels")) as channel:
            request = uuid.uuid4().hex
            content = {"code": code, "silent": False, "store_history": False}
            header = {"msg_id": request, "msg_type": "execute_request", "version": "5.3",
                      "username": "", "session": request, "date": ""}  # fmt: skip
            message = {"header": header, "parent_header": {}, "metadata": {}, "content": content,
                       "channel": "shell", "buffers": []}  # fmt: skip
            channel.send(json.dumps(message))
            printed = ""
            while True:
                answer = json.loads(channel.recv())
                if answer["parent_header"].get("msg_id") != request:
                    continue
                assert answer["msg_type"] != "error", answer["content"]
                if answer["msg_type"] == "stream":
                    printed += answer["content"]["text"]
                if answer["content"].get("execution_state") == "idle":
                    return printed

    def run_in_terminal(self, command: str) -> str:
        """Return what a command prints in a terminal of JupyterLab."""
        status, answer = self._request("POST", "/api/terminals", self.token, {})
        assert status == 200, answer
        name = json.loads(answer)["name"]
        with closing(self._websocket(f"/terminals/websocket/{name}")) as channel:
            # The shell echoes what is typed, so the marks are not in it as they are printed.
            channel.send(json.dumps(["stdin", f"echo be''gin; {command}; echo en''d\r"]))
            printed = ""
            while not re.search(r"^end\r?$", printed, re.MULTILINE):
                kind, *text = json.loads(channel.recv())
                printed += text[0] if kind == "stdout" else ""
        return printed.partition("begin\r\n")[2].rpartition("end")[0].replace("\r\n", "\n")

    # --- SSH, by the printed line ---

    @property
    def ssh_line(self) -> list[str]:
        return shlex.split(self.wait_for(r"^ +(ssh -p .*)$")[1])

    def ssh(self, *command: str, key: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run the printed line with a command at its end, and another key where one is given."""
        name, *rest = self.ssh_line
        options = ["-F/dev/null", "-oBatchMode=yes", "-oStrictHostKeyChecking=no",
                   f'-oUserKnownHostsFile="{self.directory}/known_hosts"', "-oLogLevel=ERROR",
                   "-oIdentitiesOnly=yes"]  # fmt: skip
        if key:
            options.append(f"-i{key}")
        return subprocess.run(
            [name, *options, *rest, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )


@contextmanager
def running_box(directory: Path, **env: str) -> Iterator[Box]:
    """Start a box and wait for its banner; end it with everything that it started."""
    box = Box(directory, env)
    box.start()
    try:
        box.wait_for_banner()
        yield box
    finally:
        box.kill()
