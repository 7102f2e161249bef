"""The extension in a real Jupyter Server: who is let in, what is answered, and what hangs."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
TOKEN = "a-token-of-this-test"
METRICS_TOKEN = "ü-for-prometheus-alone"
FILES = ["page.css", "gpus.js", "page.js"]
OPEN_BY_LOGIN = ("launcher/", "launcher", *(f"launcher/{name}" for name in FILES))
ANSWERS = (
    "launcher/api/status", "launcher/api/topo", "launcher/api/detect", "launcher/api/gpus",
    "launcher/topology.svg", "launcher/topology.txt", "launcher/metrics", "launcher/log.txt",
    "launcher/api/metrics", "launcher/api/gpus/history", "launcher/api/doctor/layers",
    "launcher/explain/driver.mismatch.txt",
)  # fmt: skip

# A server with the configuration that the launcher writes.
_PROGRAM = f"""\
from jupyter_server.serverapp import ServerApp
class Server(ServerApp):
    configuration = {{"page": {{}}, "metrics_token": {METRICS_TOKEN!r}}}
Server.launch_instance()
"""

# Stands for the `launcher` command: counts its runs, hangs where it is told to.
_COMMAND = """\
#!{python}
import sys, time, pathlib
folder = pathlib.Path(__file__).parents[1]
words = sys.argv[1:]
with open(folder / "runs", "a") as runs:
    runs.write(words[0] + "\\n")
if "--steps" in words:
    print('{"layer": {"name": "hardware"}}', flush=True)
while (folder / f"hang-{words[0]}").exists():
    time.sleep(0.05)
if (folder / f"fail-{words[0]}").exists():
    sys.exit("launcher: <b>it</b> failed")
said = "well & <good>"
if "--svg" in words:
    said = '<svg class="topology"></svg>'
if "--steps" in words:
    said = '{"version": 7}'
if "--json" in words:
    said = '{"said": "%s"}' % words[0]
print(said)
"""


class Server:
    """A server below a prefix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = folder / "bin" / "launcher"
        command.parent.mkdir()
        command.write_text(_COMMAND.replace("{python}", sys.executable))
        command.chmod(0o755)
        env = {
            **os.environ, "PYTHONPATH": str(GUEST), "HOME": str(folder),
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [
                sys.executable, "-c", _PROGRAM, "--allow-root", "--no-browser",
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
        sent = f"Bearer {token}".encode().decode("latin-1")  # as Prometheus sends it
        headers = {"Authorization": sent} if token else {}
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


@pytest.mark.parametrize("route", [*OPEN_BY_LOGIN, *ANSWERS])
@pytest.mark.parametrize("token", ["", "wrong"])
def test_nobody_is_let_in_without_the_token(server: Server, route: str, token: str) -> None:
    status, said = server.ask(route, token)
    assert status == (403 if route in ANSWERS else 302)
    assert "said" not in said


def test_nobody_runs_the_doctor_without_the_token(server: Server) -> None:
    before = server.runs("doctor")
    assert server.ask("launcher/api/doctor", "", "POST")[0] == 403
    assert server.runs("doctor") == before


@pytest.mark.parametrize("name", ["status", "topo", "detect"])
def test_the_answer_is_the_command_s_with_a_version(server: Server, name: str) -> None:
    status, said = server.ask(f"launcher/api/{name}")
    assert (status, json.loads(said)) == (200, {"version": 1, "said": name})


def test_a_link_does_not_run_the_doctor(server: Server) -> None:
    before = server.runs("doctor")
    assert server.ask("launcher/api/doctor")[0] == 405
    assert server.runs("doctor") == before
    assert server.ask("launcher/api/doctor", method="POST")[0] == 200
    assert server.runs("doctor") == before + 1


def test_what_the_doctor_knows_is_told_while_it_runs(server: Server) -> None:
    layers = "launcher/api/doctor/layers"
    assert json.loads(server.ask(layers)[1]) == {"version": 1, "running": False, "layers": []}
    mark = server.folder / "hang-doctor"
    mark.touch()
    asked = HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        headers = {"Authorization": f"token {TOKEN}"}
        asked.request("POST", "/user/ann/launcher/api/doctor", headers=headers)
        until = time.monotonic() + 30
        said = {"layers": []}
        while not said["layers"] and time.monotonic() < until:
            said = json.loads(server.ask(layers)[1])
        assert said == {"version": 1, "running": True, "layers": [{"name": "hardware"}]}
    finally:
        mark.unlink()
    assert json.loads(asked.getresponse().read()) == {"version": 7}


def test_a_finding_is_explained_by_its_id_alone(server: Server) -> None:
    assert server.ask("launcher/explain/driver.mismatch.txt") == (200, "well & <good>\n")
    for hostile in ("--json.txt", "..%2F..%2Fetc.txt", "a.b.txt%0A"):
        assert server.ask(f"launcher/explain/{hostile}")[0] == 404


def test_a_version_of_the_command_s_own_stays(server: Server) -> None:
    assert json.loads(server.ask("launcher/api/doctor", method="POST")[1])["version"] == 7


def test_the_page_loads_its_own_files_alone(server: Server) -> None:
    with server.open("launcher/") as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert TOKEN not in page
    linked = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert linked == FILES
    for name in linked:
        with server.open(f"launcher/{name}") as answer:
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/")
            text = answer.read().decode().replace("http://www.w3.org/2000/svg", "")
            assert "://" not in text


def test_without_a_slash_it_leads_to_the_page(server: Server) -> None:
    with server.open("launcher") as answer:
        assert answer.status == 302
        assert answer.headers["Location"] == "/user/ann/launcher/"


def test_the_topology_is_drawn_and_in_words(server: Server) -> None:
    with server.open("launcher/topology.svg") as answer:
        assert answer.headers["Content-Type"] == "image/svg+xml; charset=utf-8"
        assert "script" not in answer.headers["Content-Security-Policy"]
        assert answer.read().startswith(b"<svg")
    assert server.ask("launcher/topology.txt") == (200, "well & <good>\n")


def test_a_command_that_fails_says_why(server: Server) -> None:
    mark = server.folder / "fail-topo"
    mark.touch()
    try:
        status, said = server.ask("launcher/api/topo")
        words, picture = (server.ask(f"launcher/topology.{kind}") for kind in ("txt", "svg"))
    finally:
        mark.unlink()
    assert status == 503
    assert "<b>it</b> failed" in json.loads(said)["message"]
    assert (words, picture[0]) == ((200, "launcher: <b>it</b> failed"), 503)
    assert server.ask("launcher/")[0] == 200


def test_without_a_driver_the_gpus_are_one_line(server: Server) -> None:
    said = json.loads(server.ask("launcher/api/gpus")[1])
    assert (said["version"], said["gpus"]) == (1, [])
    assert "libnvidia-ml.so.1" in said["fault"]


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


@pytest.mark.parametrize("token", [TOKEN, METRICS_TOKEN])
def test_metrics_are_scraped_with_either_token(server: Server, token: str) -> None:
    with server.open("launcher/metrics", token) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        text = answer.read().decode()
    assert "\nlauncher_up 1.0\n" in text
    assert "\nlauncher_kernels 0.0\n" in text
    assert "\nlauncher_gpu_driver_up 0.0\n" in text


@pytest.mark.parametrize(
    "route",
    [*OPEN_BY_LOGIN, *sorted({*ANSWERS} - {"launcher/metrics"}), "api/kernels", "api/contents"],
)
def test_the_token_for_metrics_opens_nothing_else(server: Server, route: str) -> None:
    assert server.ask(route, METRICS_TOKEN)[0] in (302, 403)


@pytest.mark.parametrize("token", [METRICS_TOKEN[:-1], f"{METRICS_TOKEN}x", "ü"])
def test_nearly_that_token_opens_no_metrics(server: Server, token: str) -> None:
    assert server.ask("launcher/metrics", token)[0] == 403


def test_that_token_in_an_address_opens_nothing(server: Server) -> None:
    query = urllib.parse.urlencode({"token": METRICS_TOKEN})
    assert server.ask(f"launcher/metrics?{query}", "")[0] == 403


def test_a_launcher_that_hangs_keeps_no_scrape(server: Server) -> None:
    mark = server.folder / "hang-metrics"
    mark.touch()
    try:
        status, said = server.ask("launcher/metrics", METRICS_TOKEN)
    finally:
        mark.unlink()
    assert status == 200
    assert "\nlauncher_up 0.0\n" in said


def test_a_start_of_jupyter_imports_nothing_more_for_it() -> None:
    program = (
        "import sys, jupyter_server.serverapp; before = set(sys.modules); import launcher_page;"
        "print(*sorted(set(sys.modules) - before))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(GUEST)}, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    ours = ["launcher_page", "launcher_page_children", "launcher_page_html"]
    assert run.stdout.split() == ours
