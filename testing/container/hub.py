"""A JupyterHub on this machine, whose users' servers are containers of the image."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

from testing.container.box import Box
from testing.container.engine import DOCKER, GATEWAY, Docker, poll
from testing.local_box import free_ports
from tools import hub_proxy

CONFIG = Path(__file__).parent / "hub_config.py"
START_TIMEOUT = 60.0  # seconds
FORM = "application/x-www-form-urlencoded"


class Hub:
    """A running hub, as a browser sees it."""

    def __init__(self, docker: Docker, url: str, names: str, log: Path) -> None:
        self.docker = docker
        self.url = url
        self.names = names
        self.log = log

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/hub/health", timeout=5) as response:
                return bool(response.status == 200)
        except (URLError, OSError):
            return False

    def log_in(self, user: str) -> Browser:
        """Log in as a person does: the form, and cookies from then on."""
        browser = Browser(self.url)
        browser.get("/hub/login")
        form = {"username": user, "password": "any", "_xsrf": browser.cookie("_xsrf", "/hub/")}
        browser.get("/hub/login", data=urlencode(form).encode())
        return browser

    def box(self, user: str) -> Box:
        """Return the container of the user's server."""
        return Box(self.docker, f"{self.names}-{user}")

    def claims(self, user: str) -> Path:
        """Return the folder of the volumes that the user's pod has."""
        return self.log.parent / "claims" / user


class Browser:
    """Follows redirects and keeps cookies."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self._cookies))

    def get(self, path: str, data: bytes | None = None, content_type: str = FORM) -> str:
        """Return the page that the redirects led to; data makes it a POST."""
        headers = {"Content-Type": content_type} if data is not None else {}
        try:
            request = Request(f"{self._url}{path}", data, headers)
            with self._opener.open(request, timeout=90) as response:
                return str(response.read().decode())
        except HTTPError as error:
            with error:
                return error.read().decode()

    def cookie(self, name: str, path: str) -> str:
        return next(c.value or "" for c in self._cookies if (c.name, c.path) == (name, path))

    def open_server(self, user: str, timeout: float = 90) -> str:
        """Open one's server, spawning it; return JupyterLab's page."""
        self.get(f"/hub/spawn/{user}")
        page = ""

        def is_open() -> bool:
            nonlocal page
            page = self.get(f"/user/{user}/lab")
            return "<title>JupyterLab</title>" in page

        opened = poll(is_open, timeout=timeout, interval=0.5)
        assert opened, f"no JupyterLab for {user}; the last page:\n{page}"
        return page

    def new_token(self, user: str) -> str:
        """Return a token for the hub's API, and for one's server behind it."""
        xsrf = self.cookie("_xsrf", "/hub/")
        answer = self.get(
            f"/hub/api/users/{user}/tokens?_xsrf={xsrf}", b"{}", content_type="application/json"
        )
        found = re.search(r'"token": "(\w+)"', answer)
        assert found, answer
        return found[1]


@contextmanager
def running_hub(docker: Docker, image: str, folder: Path, config: Path = CONFIG) -> Iterator[Hub]:
    """Run a hub in the block; its users' containers go with it."""
    public, own, proxy_api = free_ports(3)
    names = f"pcl-hub-{os.getpid()}"
    log = folder / "hub.log"
    environ = {
        **docker.environment,
        "HUB_TEST_DOCKER": DOCKER,
        "HUB_TEST_IMAGE": image,
        "HUB_TEST_PROJECT": str(CONFIG.parents[2]),
        "HUB_TEST_NAMES": names,
        "HUB_TEST_PROXY": str(hub_proxy.provide()),
        "HUB_TEST_PUBLIC_URL": f"http://127.0.0.1:{public}",
        "HUB_TEST_HUB_URL": f"http://{GATEWAY.partition('/')[0]}:{own}",
        "HUB_TEST_PROXY_API_URL": f"http://127.0.0.1:{proxy_api}",
    }
    hub = Hub(docker, f"http://127.0.0.1:{public}", names, log)
    with open(log, "w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "--config", str(config)],
            cwd=folder,
            env=environ,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        poll(lambda: hub.answers() or process.poll() is not None, timeout=START_TIMEOUT)
        assert hub.answers(), f"no hub:\n{log.read_text()}"
        yield hub
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
        for user in ("image", "command", "docker", "pod", "chart"):
            hub.box(user).remove()
