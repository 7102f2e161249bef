"""JupyterLab's HTTP libraries are loaded when they are used, and work then."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

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


def run(code: str, **environ: str) -> str:
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    env = {k: v for k, v in os.environ.items() if k not in proxies} | environ
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_start_loads_none_of_them() -> None:
    assert run(f"{_START}{_LOADED}") == "[]\n"


def test_extensions_are_looked_up_all_the_same(index: str) -> None:
    asked = (
        f"manager.base_url = {index!r}\nprint(asyncio.run(manager.get_latest_version('some')))\n"
    )
    assert run(f"{_START}{asked}{_LOADED}") == "1.2.3\n['httpx', 'httpcore']\n"


def test_a_listing_is_fetched_all_the_same(index: str) -> None:
    asked = f"print(listings_handler.requests.get({index!r}).json()['info'])\n"
    assert run(f"{_START}{asked}") == "{'version': '1.2.3'}\n"


def test_a_proxy_is_taken(index: str) -> None:
    named = "manager.base_url = 'http://nowhere.invalid'\n"
    assert run(f"{_START}{named}{_ASKED}", http_proxy=index) == "1.2.3\n"


def test_others_get_the_libraries_themselves() -> None:
    others = """
import httpx, requests
class Client(httpx.AsyncClient): pass
print(httpx.__file__.endswith("__init__.py"), Client().is_closed, requests.Session().verify)
"""
    assert run(f"{_START}{others}") == "True False True\n"
