"""What the box has, below Jupyter's own address and login: a Jupyter Server extension.

    <base>/launcher/                    the page, made here; page.js fills in what changes
    <base>/launcher/page.css, page.js   its two files
    <base>/launcher/api/NAME            what `launcher NAME --json` prints, with a version
    <base>/launcher/api/gpus            what the GPUs do now
    <base>/launcher/topology.{svg,txt}  what `launcher topo` draws and prints
    <base>/launcher/metrics             box and GPUs, for Prometheus

A GET starts nothing costly, since another site can make a browser send one.  Nothing of this marks
the server as in use: a page that is left open does not keep a box awake.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import shutil
from typing import Any

from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from launcher_page_children import Commands, Sampler
from launcher_page_html import page
from tornado.web import HTTPError, authenticated

PATIENCE = 5.0  # seconds for what a scrape asks; Prometheus gives up after ten
VERSION = 1  # of the answers: another number where a field changes its meaning or goes
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
_JSON = {name: (name, "--json") for name in ("status", "topo", "detect", "doctor")}
_COSTLY = {"doctor"}  # computes on the GPUs
_TOPOLOGY = {"svg": ("topo", "--svg", "-"), "txt": ("topo",)}
_TYPES = {"svg": "image/svg+xml", "txt": "text/plain", "css": "text/css", "js": "text/javascript"}
_HERE = os.path.dirname(os.path.abspath(__file__))


class _Answer(APIHandler):  # type: ignore[misc]
    """Refuses strangers with 403, not with the login page."""

    _track_activity = False

    def send(self, document: dict[str, Any]) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish({"version": VERSION, **document})


class Api(_Answer):
    """The commands' JSON."""

    def initialize(self, commands: Commands) -> None:
        self.commands = commands

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, name: str) -> None:
        if name in _COSTLY:
            self.set_header("Allow", "POST")
            raise HTTPError(405, f"{name} works on the GPUs: POST")
        self.send(json.loads(await self.commands.output(_JSON[name])))

    @authenticated  # type: ignore[untyped-decorator]
    async def post(self, name: str) -> None:
        self.send(json.loads(await self.commands.output(_JSON[name])))


class Gpus(_Answer):
    """What the GPUs do now."""

    def initialize(self, sampler: Sampler) -> None:
        self.sampler = sampler

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        self.send(await self.sampler.latest())


class Metrics(_Answer):
    """Box and GPUs, for Prometheus, which may have a token that opens nothing else."""

    def initialize(
        self, commands: Commands, sampler: Sampler, facts: dict[str, Any], own_token: str
    ) -> None:
        self.commands = commands
        self.sampler = sampler
        self.facts = facts
        self.own_token = own_token

    async def prepare(self) -> None:
        # First: a hub would be asked about a token that it does not know.
        if self.own_token and _is_sent(
            self.own_token, self.request.headers.get("Authorization", "")
        ):
            self.current_user = "metrics"
        else:
            await super().prepare()

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        from launcher_page_metrics import CONTENT_TYPE_LATEST, exposition

        box, gpus = await asyncio.gather(self._box(), self.sampler.latest(PATIENCE))
        self.set_header("Cache-Control", "no-store")
        self.finish(exposition(box, gpus), set_content_type=CONTENT_TYPE_LATEST)

    async def _box(self) -> dict[str, Any]:
        """Return how the box is; nothing where the launcher does not say so in time."""
        asked = self.commands.output(("metrics", "--json"))
        try:
            said: dict[str, Any] = json.loads(await asyncio.wait_for(asked, PATIENCE))
        except (asyncio.TimeoutError, HTTPError, ValueError):
            return {}
        own = {"devices": self.facts.get("devices"), "kernels": len(self.kernel_manager)}
        return {**said, **own}


def _is_sent(token: str, header: str) -> bool:
    kind, _, sent = header.partition(" ")
    return kind.lower() in ("token", "bearer") and hmac.compare_digest(
        sent.strip().encode("latin-1", "replace"),
        token.encode(),  # as it came over the wire
    )


class Topology(_Answer):
    """The topology, drawn or in words."""

    def initialize(self, commands: Commands) -> None:
        self.commands = commands

    @property
    def content_security_policy(self) -> str:
        return _PICTURE_POLICY

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, form: str) -> None:
        said = await self.commands.output(_TOPOLOGY[form])
        self.set_header("Cache-Control", "no-store")
        self.finish(said, set_content_type=f"{_TYPES[form]}; charset=utf-8")


class File(JupyterHandler):  # type: ignore[misc]
    """The style sheet and the script."""

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, form: str) -> None:
        with open(os.path.join(_HERE, f"page.{form}"), encoding="utf-8") as stream:
            text = stream.read()
        self.set_header("Content-Type", f"{_TYPES[form]}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.finish(text)


class Page(JupyterHandler):  # type: ignore[misc]
    """The page, which waits for no child."""

    def initialize(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    @property
    def content_security_policy(self) -> str:
        return _POLICY

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        if not self.request.path.endswith("/"):  # relative links would lead elsewhere
            self.redirect(f"{self.request.path}/")
            return
        self.xsrf_token  # noqa: B018  # sets the cookie that page.js sends back
        self.set_header("Cache-Control", "no-store")
        self.finish(page(self.facts))


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "launcher_page"}]


def _load_jupyter_server_extension(app: Any) -> None:
    configuration = getattr(app, "configuration", {})
    facts = configuration.get("page") or {}
    commands, sampler = Commands(shutil.which("launcher") or "launcher"), Sampler()
    scraped = {
        "commands": commands, "sampler": sampler, "facts": facts,
        "own_token": configuration.get("metrics_token") or "",
    }  # fmt: skip
    base = url_path_join(app.web_app.settings["base_url"], "launcher")
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, rf"api/({'|'.join(_JSON)})"), Api, {"commands": commands}),
            (url_path_join(base, "api/gpus"), Gpus, {"sampler": sampler}),
            (url_path_join(base, "metrics"), Metrics, scraped),
            (
                url_path_join(base, rf"topology\.({'|'.join(_TOPOLOGY)})"),
                Topology,
                {"commands": commands},
            ),
            (url_path_join(base, r"page\.(css|js)"), File),
            (f"{base}/?", Page, {"facts": facts}),
        ],
    )
