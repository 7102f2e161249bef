"""What the box has, below Jupyter's own address and login: a Jupyter Server extension.

    <base>/launcher/                    the page, made here; page.js fills in what changes
    <base>/launcher/page.css, …         its files
    <base>/launcher/api/NAME            what `launcher NAME --json` prints, with a version
    <base>/launcher/api/doctor/layers   what a doctor that runs has said so far
    <base>/launcher/api/gpus            what the GPUs do now; api/gpus/history: and did
    <base>/launcher/topology.{svg,txt}  what `launcher topo` draws and prints
    <base>/launcher/log.txt             the launcher's own last lines
    <base>/launcher/explain/ID.txt      what docs/doctor.md says of a finding
    <base>/launcher/metrics             box and GPUs, for Prometheus

A GET starts nothing costly, since another site can make a browser send one.  Nothing of this marks
the server as in use: a page that is left open does not keep a box awake.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import re
import shutil
from collections.abc import Iterable
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
_DOCTOR = ("doctor", "--steps")  # computes on the GPUs; the document is its last line
_JSON = {name: (name, "--json") for name in ("status", "topo", "detect", "metrics")}
_TEXTS = {
    "topology.svg": ("topo", "--svg", "-"),
    "topology.txt": ("topo",),
    "log.txt": ("logs", "launcher", "-n", "100"),
}
_FILES = ("page.css", "page.js", "gpus.js")
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
        self.send(json.loads(await self.commands.output(_JSON[name])))


class Doctor(_Answer):
    """The doctor, which a GET does not run."""

    def initialize(self, commands: Commands) -> None:
        self.commands = commands

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, layers: str | None) -> None:
        if not layers:
            self.set_header("Allow", "POST")
            raise HTTPError(405, "doctor works on the GPUs: POST")
        said = self.commands.so_far(_DOCTOR)
        lines = map(json.loads, (said or "").splitlines())
        known = [line["layer"] for line in lines if "layer" in line]
        self.send({"running": said is not None, "layers": known})

    @authenticated  # type: ignore[untyped-decorator]
    async def post(self, layers: str | None) -> None:
        if layers:
            raise HTTPError(405)
        self.send(json.loads((await self.commands.output(_DOCTOR)).splitlines()[-1]))


class Gpus(_Answer):
    """What the GPUs do now."""

    def initialize(self, sampler: Sampler) -> None:
        self.sampler = sampler

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, history: str | None) -> None:
        self.send(self.sampler.history() if history else await self.sampler.latest())


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
        from launcher_metrics import CONTENT_TYPE_LATEST, exposition

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


class Text(_Answer):
    """What a command draws or prints."""

    def initialize(self, commands: Commands) -> None:
        self.commands = commands

    @property
    def content_security_policy(self) -> str:
        return _PICTURE_POLICY

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, name: str) -> None:
        await self.answer(_TEXTS[name], name)

    async def answer(self, words: tuple[str, ...], name: str) -> None:
        try:
            said = await self.commands.output(words)
        except HTTPError as err:  # a text says it as a terminal would: why there is nothing to see
            if err.status_code != 503 or not name.endswith(".txt"):
                raise
            said = str(err.log_message)
        self.set_header("Cache-Control", "no-store")
        self.finish(said, set_content_type=f"{_type(name)}; charset=utf-8")


class Explained(Text):
    """A section of docs/doctor.md."""

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, finding: str) -> None:
        await self.answer(("explain", finding), "explained.txt")


class File(JupyterHandler):  # type: ignore[misc]
    """The style sheet and the scripts."""

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self, name: str) -> None:
        with open(os.path.join(_HERE, name), encoding="utf-8") as stream:
            text = stream.read()
        self.set_header("Content-Type", f"{_type(name)}; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.finish(text)


def _type(name: str) -> str:
    return _TYPES[name.rpartition(".")[2]]


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
    asks = {"commands": commands}
    routes = {
        rf"api/({'|'.join(_JSON)})": (Api, asks),
        r"api/doctor(/layers)?": (Doctor, asks),
        r"api/gpus(/history)?": (Gpus, {"sampler": sampler}),
        "metrics": (Metrics, scraped),
        f"({_any_of(_TEXTS)})": (Text, asks),
        r"explain/([a-z_]+\.\w+)\.txt": (Explained, asks),
        f"({_any_of(_FILES)})": (File, {}),
    }
    base = url_path_join(app.web_app.settings["base_url"], "launcher")
    handlers = [(url_path_join(base, path), *handler) for path, handler in routes.items()]
    app.web_app.add_handlers(".*$", [*handlers, (f"{base}/?", Page, {"facts": facts})])


def _any_of(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))
