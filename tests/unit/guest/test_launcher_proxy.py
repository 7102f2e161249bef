"""The user's other programs in a real Jupyter, started as the launcher starts it.

And what such a Jupyter has imported: each import is one of its start's milliseconds.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from launcher.model import run_files
from launcher.model.machine import GpuReport
from launcher.model.plan import Secret
from launcher.plan.plan import make_plan
from launcher.render.files import render
from testing.machines import STATE, machine, outset, settings
from testing.values import replace

GUEST = Path(__file__).parents[3] / "launcher" / "guest"
TOKEN = "a-token-of-this-test"
BASE = "/user/ann/"
HOSTILE = """<b>"it's" $(id)</b> %s {port}"""
LOADED_WHEN_USED = {"aiohttp", "jupyter_server_proxy", "simpervisor", "tensorboard", "grpc"}
# What Jupyter has no use for on the way to its first answer, tens of milliseconds each.
HEAVY = LOADED_WHEN_USED | {
    "google.protobuf", "httpcore", "httpx", "matplotlib", "nbconvert.exporters", "numpy", "pandas",
    "PIL", "lark", "requests", "scipy", "torch", "websockets",
}  # fmt: skip
MOST_IMPORTS = 1000  # 954 on Python 3.11; aiohttp alone brings a hundred


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        said = f"mine {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


class Started:
    """A Jupyter below a prefix, and a program of the user's beside it."""

    def __init__(self, folder: Path) -> None:
        self.program = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
        threading.Thread(target=self.program.serve_forever, daemon=True).start()
        self.beside = self.program.server_address[1]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.said = folder / "said"
        config = folder / "jupyter.json"
        config.write_text(json.dumps(self._configuration(folder)))
        env = {
            **os.environ, "HOME": str(folder), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "PYTHONPROFILEIMPORTTIME": "1", "JUPYTER_CONFIG_DIR": str(folder),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, GUEST / "jupyter.py", config],
            env=env, cwd=folder, stdout=subprocess.DEVNULL, stderr=self.said.open("w"),
        )  # fmt: skip

    def _configuration(self, folder: Path) -> dict[str, Any]:
        """Return what the launcher writes, but for where this test keeps its files."""
        given = {
            "LAUNCHER_PORTS": f"{self.beside}={HOSTILE}", "JUPYTER_PORT": str(self.port),
            "LAUNCHER_JUPYTER_BASE_URL": BASE,
        }  # fmt: skip
        here = outset(machine(GpuReport()), settings(given))
        plan = make_plan(here, replace(STATE, token=Secret(TOKEN)))
        paths = replace(plan.paths, workspace=str(folder), guest=str(GUEST), python=sys.executable)
        files = {file.path: file.content for file in render(replace(plan, paths=paths))}
        text = files[f"{plan.paths.run}/{run_files.JUPYTER_CONFIG}"]
        found: dict[str, Any] = json.loads(text or "")
        found["final"]["ServerApp"]["allow_root"] = True
        return found

    def ask(self, path: str, token: str = TOKEN) -> tuple[int, str]:
        headers = {"Authorization": f"token {token}"} if token else {}
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{BASE}{path}", headers=headers
        )
        try:
            with _OPENER.open(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def imported(self) -> list[str]:
        """Return what was imported until now, as `python -X importtime` says it."""
        return re.findall(r"^import time:[ \d|]+ (\S+)$", self.said.read_text(), re.MULTILINE)


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    started = Started(tmp_path_factory.mktemp("jupyter"))
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert started.process.poll() is None, started.said.read_text()
            try:
                if started.ask("api")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
        started.ask("api/status")
        yield started
    finally:
        started.process.terminate()
        started.process.wait(30)
        started.program.shutdown()


# In this order: the first two look before anybody has opened a program.


def test_a_start_of_jupyter_imports_nothing_heavy(jupyter: Started) -> None:
    imported = jupyter.imported()
    assert "tornado.websocket" in imported, "these are not its imports"
    heavy = {name for name in imported if name in HEAVY or name.split(".")[0] in HEAVY}
    assert heavy == set()
    assert len(imported) <= MOST_IMPORTS


def test_cards_are_there_without_it_and_names_are_data(jupyter: Started) -> None:
    status, said = jupyter.ask("server-proxy/servers-info")
    assert status == 200
    cards = [one["launcher_entry"] for one in json.loads(said)["server_processes"]]
    assert [(card["title"], card["path_info"]) for card in cards] == [
        ("This box", "launcher/"), ("TensorBoard", "tensorboard/"),
        (HOSTILE, f"proxy/{jupyter.beside}/"),
    ]  # fmt: skip
    icon = cards[0]["icon_url"].removeprefix(BASE)
    assert jupyter.ask(icon)[1].startswith("<svg ")
    assert not LOADED_WHEN_USED & {*jupyter.imported()}


def test_the_page_links_to_them(jupyter: Started) -> None:
    page = jupyter.ask("launcher/")[1]
    assert f'<a href="../proxy/{jupyter.beside}/">&lt;b&gt;&quot;it&#x27;s&quot; $(id)' in page
    assert '<a href="../tensorboard/">TensorBoard</a>' in page


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    "path", ["proxy/{}/", "proxy/{}", "tensorboard/", "server-proxy/servers-info"]
)
def test_nobody_reaches_a_program_without_the_token(
    jupyter: Started, path: str, token: str
) -> None:
    status, said = jupyter.ask(path.format(jupyter.beside), token)
    assert (status, "mine" in said) == (302, False)


def test_a_program_of_the_users_is_reached_below_the_path(jupyter: Started) -> None:
    assert jupyter.ask(f"proxy/{jupyter.beside}/a/b?c=1") == (200, "mine /a/b?c=1")
    absolute = f"proxy/absolute/{jupyter.beside}/a"
    assert jupyter.ask(absolute) == (200, f"mine {BASE}{absolute}")
    assert LOADED_WHEN_USED & {*jupyter.imported()} == {
        "aiohttp", "jupyter_server_proxy", "simpervisor",
    }  # fmt: skip
    cards = json.loads(jupyter.ask("server-proxy/servers-info")[1])["server_processes"]
    titles = [card["launcher_entry"]["title"] for card in cards]
    assert titles == ["This box", "TensorBoard", HOSTILE]


def test_other_machines_are_not_reached_through_it(jupyter: Started) -> None:
    assert jupyter.ask("proxy/192.0.2.1:80/")[0] == 403
