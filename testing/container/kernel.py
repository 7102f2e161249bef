"""A notebook user: opens the URL that the banner prints, runs cells, types in a terminal.

What a browser does, over Jupyter's REST and websocket interfaces, with the token alone.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPSHandler, Request, build_opener

import websocket

from testing.container.box import Box

URL = re.compile(r"https?://\S+/lab\?token=\S+")
ANSWER_TIMEOUT = 30.0  # seconds for one HTTP answer


class CellError(AssertionError):
    """A cell raised; the message is its traceback."""


@dataclass(frozen=True)
class Answer:
    """What the server said to one request."""

    status: int
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Server:
    """A Jupyter server, reached with the token and nothing else; or by whom a proxy let in."""

    def __init__(self, url: str) -> None:
        """Take the URL of a banner: `http://HOST:PORT/BASE/lab?token=…`, or without a token."""
        parts = urlsplit(url)
        self.token = parse_qs(parts.query).get("token", [""])[0]
        self._encrypted = parts.scheme == "https"
        self._place = parts.netloc + parts.path.removesuffix("/lab")

    @property
    def url(self) -> str:
        return f"http{'s' * self._encrypted}://{self._place}"

    @property
    def page_url(self) -> str:
        """The URL of the banner, on the port that is published here."""
        return f"{self.url}/lab?token={quote(self.token, safe='')}"

    def request(
        self, path: str, *, method: str = "GET", body: Any = None, token: str | None = None
    ) -> Answer:
        """Send one request, with the server's own token unless another one, or "", is given."""
        token = self.token if token is None else token
        request = Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {token}"} if token else self._as_a_page(method),
        )
        return fetch(request)

    def _as_a_page(self, method: str) -> dict[str, str]:
        """Return what a page of the server's own sends: jupyter_server, check_xsrf_cookie."""
        if method == "GET":
            return {}
        with build_opener().open(f"{self.url}/lab", timeout=ANSWER_TIMEOUT) as page:
            cookies = page.headers.get_all("Set-Cookie") or []
        given = [cookie.partition(";")[0] for cookie in cookies]
        own = next((cookie for cookie in given if cookie.startswith("_xsrf=")), "_xsrf=")
        return {"Cookie": "; ".join(given), "X-XSRFToken": own.removeprefix("_xsrf=")}

    def answers(self) -> bool:
        """Say whether it is there and takes the token."""
        try:
            return self.request("/api/status").status == 200
        except OSError:
            return False

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """Start a Python kernel, and shut it down at the end."""
        id = self.request("/api/kernels", method="POST", body={}).json()["id"]
        try:
            with Kernel(self, id) as kernel:
                yield kernel
        finally:
            with suppress(OSError):  # the server may be gone, and its kernels with it
                self.request(f"/api/kernels/{id}", method="DELETE")

    def run_cell(self, code: str) -> str:
        """Run `code` in a kernel of its own; return what it printed."""
        with self.kernel() as kernel:
            return kernel.run(code)

    @contextmanager
    def terminal(self) -> Iterator[ServerTerminal]:
        """Open a terminal, and close it at the end."""
        name = self.request("/api/terminals", method="POST", body={}).json()["name"]
        try:
            with ServerTerminal(self, name) as terminal:
                yield terminal
        finally:
            self.request(f"/api/terminals/{name}", method="DELETE")

    def open_socket(self, path: str) -> websocket.WebSocket:
        return websocket.create_connection(
            f"ws{'s' * self._encrypted}://{self._place}{path}",
            header=[f"Authorization: token {self.token}"],
            sslopt={"cert_reqs": ssl.CERT_NONE},  # a person clicks through the browser's question
            timeout=ANSWER_TIMEOUT,
        )


class _Socket:
    """An open websocket of the server, closed at the end of the block."""

    def __init__(self, server: Server, path: str) -> None:
        self._socket = server.open_socket(path)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def _receive(self, deadline: float) -> str | None:
        """Return the next message, or None where none comes by `deadline`."""
        self._socket.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            return str(self._socket.recv())
        except websocket.WebSocketTimeoutException:
            return None


class Kernel(_Socket):
    """A running kernel: its variables stay from cell to cell."""

    def __init__(self, server: Server, id: str) -> None:
        super().__init__(server, f"/api/kernels/{id}/channels?session_id={id}")
        self.id = id

    def run(self, code: str, timeout: float = 120) -> str:
        """Run a cell; return what it printed.  Raises CellError where it raised."""
        return "".join(self.printed(code, timeout))

    def run_until(self, printed: str, code: str, timeout: float = 30) -> None:
        """Run a cell that does not end, until it has printed something."""
        seen = ""
        for text in self.printed(code, timeout):
            seen += text
            if printed in seen:
                return
        raise AssertionError(f"{printed!r} was not printed, but {seen!r}")

    def printed(self, code: str, timeout: float = 120) -> Iterator[str]:
        """Run a cell; yield what it prints, until it ends."""
        request = self._send(code)
        deadline = time.monotonic() + timeout
        while (received := self._receive(deadline)) is not None:
            message = json.loads(received)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    yield content["text"]
                case "error":
                    raise CellError("\n".join(content["traceback"]))
                case "status" if content["execution_state"] == "idle":
                    return
        raise AssertionError(f"the cell did not end within {timeout:g} s")

    def _send(self, code: str) -> str:
        """Send an execute_request (jupyter-client, "Messaging in Jupyter"); return its id."""
        id = uuid.uuid4().hex
        header = {
            "msg_id": id,
            "msg_type": "execute_request",
            "username": "",
            "session": id,
            "date": "",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        self._socket.send(
            json.dumps(
                {
                    "header": header,
                    "parent_header": {},
                    "metadata": {},
                    "content": content,
                    "buffers": [],
                    "channel": "shell",
                }
            )
        )
        return id


class ServerTerminal(_Socket):
    """A terminal of JupyterLab: a shell behind a websocket."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(server, f"/terminals/websocket/{name}")
        self.shown = ""

    def run(self, command: str, timeout: float = 30) -> str:
        """Type a command; return what it printed, without the echo and the prompt."""
        # The echo shows the marks in two pieces, so only the output has them whole.
        first, last = f"<{uuid.uuid4().hex}", f"{uuid.uuid4().hex}>"
        halves = [(mark[:8], mark[8:]) for mark in (first, last)]
        begin, end = (f"printf '%s%s\\n' '{left}' '{right}'" for left, right in halves)
        self._socket.send(json.dumps(["stdin", f"{begin}; {command}; {end}\r"]))
        deadline = time.monotonic() + timeout
        while last not in self.shown and (received := self._receive(deadline)) is not None:
            kind, *content = json.loads(received)
            if kind == "stdout":
                self.shown += content[0]
        found = re.search(rf"{first}\r?\n(?s:(.*?)){last}", self.shown)
        assert found, f"{command!r} did not end within {timeout:g} s; it shows:\n{self.shown}"
        return found[1].replace("\r\n", "\n")


def printed_url(text: str) -> str:
    """Return the Jupyter URL exactly as the banner prints it."""
    found = URL.search(text)
    assert found, f"no Jupyter URL in\n{text}"
    return found[0]


def connect(box: Box) -> Server:
    """Wait for the banner, and follow its URL to the port that is published here."""
    url = urlsplit(printed_url(box.wait_for_banner()))
    return Server(url._replace(netloc=f"127.0.0.1:{box.port(url.port or 80)}").geturl())


def open_page(url: str) -> Answer:
    """Open a page as a browser does: with cookies, following redirects."""
    return fetch(Request(url))


def fetch(request: Request) -> Answer:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    opener = build_opener(HTTPCookieProcessor(CookieJar()), HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=ANSWER_TIMEOUT) as response:
            return Answer(response.status, response.read().decode())
    except HTTPError as refused:
        with refused:
            return Answer(refused.code, refused.read().decode(errors="replace"))
