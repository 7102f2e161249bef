"""The extension in a real Jupyter Server: who is let in, what is answered, and what hangs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
TOKEN = "a-token-of-this-test"
ROUTES = ("launcher/", "launcher/api/status", "launcher/api/topo", "launcher/api/detect")

# Stands for the `launcher` command: counts its runs, hangs where it is told to.
_COMMAND = """\
import sys, time, pathlib
folder = pathlib.Path(sys.argv[1])
words = sys.argv[2:]
with open(folder / "runs", "a") as runs:
    runs.write(words[0] + "\\n")
while (folder / f"hang-{words[0]}").exists():
    time.sleep(0.05)
if (folder / f"fail-{words[0]}").exists():
    sys.exit("launcher: <b>it</b> failed")
print('<svg class="topology"></svg>' if "--svg" in words else
      '{"said": "%s"}' % words[0] if "--json" in words else "well & <good>")
"""


class Server:
    """A server below a prefix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = folder / "command.py"
        command.write_text(_COMMAND)
        env = {
            **os.environ, "PYTHONPATH": str(GUEST), "HOME": str(folder),
            "LAUNCHER_COMMAND": "\x1f".join([sys.executable, str(command), str(folder)]),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
                f"--port={self.port}", "--ServerApp.base_url=/user/ann/", "--port-retries=0",
                f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
                "--ServerApp.jpserver_extensions={'launcher_page': True}",
            ],
            env=env, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("w"),
        )  # fmt: skip

    def ask(self, path: str, token: str = TOKEN, method: str = "GET") -> tuple[int, str]:
        with self.open(path, token, method) as answer:
            return answer.status, answer.read().decode()

    def open(self, path: str, token: str = TOKEN, method: str = "GET") -> HTTPResponse:
        url = f"http://127.0.0.1:{self.port}/user/ann/{path}"
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(url, headers=headers, method=method)
        try:
            return _OPENER.open(request, timeout=60)
        except urllib.error.HTTPError as err:
            return err  # type: ignore[return-value]

    def runs(self, name: str) -> int:
        path = self.folder / "runs"
        return path.read_text().split().count(name) if path.exists() else 0


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("jupyter"))
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert started.process.poll() is None, (started.folder / "log").read_text()
            try:
                if started.ask("api")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        yield started
    finally:
        started.process.kill()
        started.process.wait()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("token", ["", "wrong"])
def test_nobody_is_let_in_without_the_token(server: Server, route: str, token: str) -> None:
    status, said = server.ask(route, token)
    assert status == (403 if "api" in route else 302)
    assert "said" not in said


def test_nobody_runs_the_doctor_without_the_token(server: Server) -> None:
    before = server.runs("doctor")
    assert server.ask("launcher/api/doctor", "", "POST")[0] == 403
    assert server.runs("doctor") == before


@pytest.mark.parametrize("name", ["status", "topo", "detect"])
def test_the_answer_is_the_command_s_with_a_version(server: Server, name: str) -> None:
    status, said = server.ask(f"launcher/api/{name}")
    assert (status, json.loads(said)) == (200, {"version": 1, name: {"said": name}})


def test_a_link_does_not_run_the_doctor(server: Server) -> None:
    before = server.runs("doctor")
    assert server.ask("launcher/api/doctor")[0] == 405
    assert server.runs("doctor") == before
    assert server.ask("launcher/api/doctor", method="POST")[0] == 200
    assert server.runs("doctor") == before + 1


def test_the_page_escapes_what_is_said_and_allows_no_script(server: Server) -> None:
    with server.open("launcher/") as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "well &amp; &lt;good&gt;" in page
    assert '<svg class="topology">' in page
    assert "default-src 'none'" in policy
    assert "script-src" not in policy
    assert TOKEN not in page


def test_a_part_that_fails_leaves_the_rest(server: Server) -> None:
    mark = server.folder / "fail-topo"
    mark.touch()
    try:
        status, page = server.ask("launcher/")
        assert server.ask("launcher/api/topo")[0] == 503
    finally:
        mark.unlink()
    assert status == 200
    assert "&lt;b&gt;it&lt;/b&gt; failed" in page
    assert "well &amp;" in page


def test_a_command_that_hangs_is_asked_once_and_stops_nobody(server: Server) -> None:
    mark, before = server.folder / "hang-detect", server.runs("detect")
    mark.touch()
    asked = [HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(3)]
    try:
        for one in asked:
            headers = {"Authorization": f"token {TOKEN}"}
            one.request("GET", "/user/ann/launcher/api/detect", headers=headers)
        assert server.ask("api")[0] == 200
        assert server.ask("launcher/api/status")[0] == 200  # after theirs: it starts a child
    finally:
        mark.unlink()
    assert [one.getresponse().status for one in asked] == [200, 200, 200]
    assert server.runs("detect") == before + 1
