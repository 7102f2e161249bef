"""What the box has, below Jupyter's own address and login: a Jupyter Server extension.

    <base>/launcher/               the page: status, topology, in words and as a picture
    <base>/launcher/api/NAME       what `launcher NAME --json` prints

Every answer is a command's, in a child with a deadline: the driver may hang or crash, and Jupyter
must not.  Whoever asks while a child runs is given its answer, so there is never a second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import os
import shutil
from typing import Any

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.web import HTTPError, authenticated

VERSION = 1  # of the answers: another number where a field changes its meaning or goes
DEADLINE = 30.0  # seconds
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)
_JSON = {name: (name, "--json") for name in ("status", "topo", "detect", "doctor")}
_COSTLY = {"doctor"}  # computes on the GPUs: never by a link that another site can make one open
_PICTURE = ("topo", "--svg", "-")
_STATUS = ("status",)


class Commands:
    """Runs `launcher` commands, each once at a time."""

    def __init__(self, launcher: list[str]) -> None:
        self._launcher = launcher
        self._running: dict[tuple[str, ...], asyncio.Task[str]] = {}

    async def output(self, words: tuple[str, ...]) -> str:
        """Return what a command prints.  Raises HTTPError: 503 it failed, 504 it hangs."""
        task = self._running.get(words)
        if task is None or task.done():
            task = self._running[words] = asyncio.create_task(self._run(words))
        try:
            return await asyncio.wait_for(asyncio.shield(task), DEADLINE)
        except TimeoutError:
            raise HTTPError(504, f"launcher {words[0]}: no answer in {DEADLINE:g} s") from None

    async def _run(self, words: tuple[str, ...]) -> str:
        pipe, none = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        argv = [*self._launcher, *words]
        try:
            child = await asyncio.create_subprocess_exec(
                *argv, stdin=none, stdout=pipe, stderr=pipe
            )
        except OSError as err:
            raise HTTPError(503, f"cannot run {argv[0]}: {err.strerror}") from None
        try:
            said, complained = await asyncio.wait_for(child.communicate(), DEADLINE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()  # in the driver it may never end: so there is no second one
            raise HTTPError(504, f"launcher {words[0]}: ended after {DEADLINE:g} s") from None
        if not said.strip():  # status and doctor print, and end with what they found
            raise HTTPError(503, complained.decode(errors="replace").strip()[-500:])
        return said.decode(errors="replace")


class Api(APIHandler):  # type: ignore[misc]
    """The commands' JSON."""

    def initialize(self, commands: Commands) -> None:
        self.commands = commands

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, name: str) -> None:
        if name in _COSTLY:
            self.set_header("Allow", "POST")
            raise HTTPError(405, f"{name} works on the GPUs: POST")
        await self._answer(name)

    @authenticated  # type: ignore[untyped-decorator]
    async def post(self, name: str) -> None:
        await self._answer(name)

    async def _answer(self, name: str) -> None:
        said = await self.commands.output(_JSON[name])
        self.set_header("Cache-Control", "no-store")
        self.finish({"version": VERSION, name: json.loads(said)})


class Page(JupyterHandler):  # type: ignore[misc]
    """The page, made anew each time it is opened."""

    def initialize(self, commands: Commands) -> None:
        self.commands = commands

    @property
    def content_security_policy(self) -> str:
        return _POLICY

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        if not self.request.path.endswith("/"):
            self.redirect(f"{self.request.path}/")
            return
        status, picture = await asyncio.gather(self._part(_STATUS), self._part(_PICTURE))
        drawn = picture if picture.startswith("<svg ") else f"<pre>{html.escape(picture)}</pre>"
        self.set_header("Cache-Control", "no-store")
        self.finish(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The box</title>'
            '<meta name="viewport" content="width=device-width">'
            "<style>:root{color-scheme:light dark}body{font:16px sans-serif;max-width:760px;"
            "margin:auto;padding:8px}pre{overflow:auto}</style></head><body><main><h1>The box</h1>"
            f'<h2>Status</h2><pre tabindex="0">{html.escape(status)}</pre>'
            f"<h2>How the GPUs are connected</h2>{drawn}</main></body></html>"
        )

    async def _part(self, words: tuple[str, ...]) -> str:
        """Return what a command prints, or why there is nothing: the rest of the page stays."""
        try:
            return await self.commands.output(words)
        except HTTPError as err:
            return str(err.log_message)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "launcher_page"}]


def _load_jupyter_server_extension(app: Any) -> None:
    found = os.environ.get("LAUNCHER_COMMAND") or shutil.which("launcher") or "launcher"
    commands = {"commands": Commands(found.split("\x1f"))}
    base = app.web_app.settings["base_url"]
    names = "|".join(_JSON)
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, rf"launcher/api/({names})"), Api, commands),
            (url_path_join(base, "launcher/?"), Page, commands),
        ],
    )
