"""JupyterLab's HTTP libraries are loaded when they are used, and work then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

Run = Callable[..., str]
GUEST = Path(__file__).parents[3] / "launcher" / "guest"
_LOADED = "print([n for n in ('httpx', 'httpcore', 'requests') if n in sys.modules])\n"
_START = f"""
import asyncio, sys
sys.path.insert(0, {str(GUEST)!r})
from launcher_late import late_libraries
with late_libraries():
    from jupyterlab.extensions import pypi
    from jupyterlab_server import listings_handler
manager = pypi.PyPIExtensionManager({{}})
"""
# Importing JupyterLab takes seconds.  Each test goes on from there, in a process of its own.
_GO_ON = """
import json, os, traceback
for line in sys.stdin:
    code, environ = json.loads(line)
    reader, writer = os.pipe()
    if not os.fork():
        os.dup2(writer, 1), os.dup2(writer, 2)
        os.environ.update(environ)
        try:
            exec(code)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.close(writer)
    with open(reader) as output:
        said = output.read()
    os.wait()
    print(json.dumps(said), flush=True)
"""
_ASKED = "print(asyncio.run(manager.get_latest_version('some')))\n"


class Index(BaseHTTPRequestHandler):
    """An index of packages that has each in the version 1.2.3."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"info": {"version": "1.2.3"}}')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Run code where Jupyter has been imported as our start does; return what it prints."""
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    started = subprocess.Popen(
        [sys.executable, "-c", _START + _GO_ON], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=env,
    )  # fmt: skip

    def go_on(code: str, **environ: str) -> str:
        assert started.stdin
        assert started.stdout
        started.stdin.write(f"{json.dumps([code, environ])}\n")
        started.stdin.flush()
        return str(json.loads(started.stdout.readline()))

    yield go_on
    started.kill()
    started.communicate()


def test_a_start_loads_none_of_them(run: Run) -> None:
    assert run(_LOADED) == "[]\n"


def test_extensions_are_looked_up_all_the_same(run: Run, index: str) -> None:
    asked = (
        f"manager.base_url = {index!r}\nprint(asyncio.run(manager.get_latest_version('some')))\n"
    )
    assert run(f"{asked}{_LOADED}") == "1.2.3\n['httpx', 'httpcore']\n"


def test_a_listing_is_fetched_all_the_same(run: Run, index: str) -> None:
    asked = f"print(listings_handler.requests.get({index!r}).json()['info'])\n"
    assert run(asked) == "{'version': '1.2.3'}\n"


def test_a_proxy_is_taken(run: Run, index: str) -> None:
    named = "manager.base_url = 'http://nowhere.invalid'\n"
    assert run(f"{named}{_ASKED}", http_proxy=index) == "1.2.3\n"


def test_others_get_the_libraries_themselves(run: Run) -> None:
    others = """
import httpx, requests
class Client(httpx.AsyncClient): pass
print(httpx.__file__.endswith("__init__.py"), Client().is_closed, requests.Session().verify)
"""
    assert run(others) == "True False True\n"
