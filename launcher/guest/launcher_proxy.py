"""Other programs of the user's below Jupyter's address and login, by jupyter-server-proxy.

    <base>/proxy/PORT/                 what listens on a port of the loopback interface
    <base>/NAME/                       what the configuration names, such as TensorBoard
    <base>/server-proxy/servers-info   the cards of JupyterLab's launcher, which JupyterLab asks for

It takes 0.2 s and 8 MB to import, most of it for aiohttp.  So it is loaded when somebody first
opens one of these programs; until then the cards are answered from the configuration.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule
from tornado.web import authenticated

_PACKAGE = "jupyter_server_proxy"
_OTHERS = "jupyter_serverproxy_servers"  # the entry points by which packages bring programs along
_ICON = os.path.join(os.path.dirname(os.path.abspath(__file__)), "program.svg")


class Proxy:
    """jupyter-server-proxy, loaded or not yet."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.loaded = False

    @property
    def servers(self) -> Mapping[str, Any]:
        """Return the programs that the configuration names: ours, or those of the user's own."""
        servers = self._app.config.get("ServerProxy", {}).get("servers", {})
        return servers if isinstance(servers, Mapping) else {}

    def load(self) -> None:
        """Let it add its handlers, which come after ours and before Jupyter's own."""
        if self.loaded:
            return
        self.loaded = True
        try:
            from jupyter_server_proxy import _load_jupyter_server_extension
        except Exception:  # a package that it needs and that the user has changed
            self._app.log.exception("jupyter-server-proxy cannot be imported")
        else:
            _load_jupyter_server_extension(self._app)


class Unloaded(PathMatches):  # type: ignore[misc]
    """Matches its paths until the proxy is loaded, whose own handlers then answer them."""

    def __init__(self, proxy: Proxy, path: str) -> None:
        super().__init__(path)
        self.proxy = proxy

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return None if self.proxy.loaded else super().match(request)


class Loading(Unloaded):
    """Matches nothing: it loads the proxy, and the request goes on to the handlers of that."""

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        if super().match(request) is not None:
            self.proxy.load()
        return None


class Cards(JupyterHandler):  # type: ignore[misc]
    """What JupyterLab's launcher shows, as jupyter-server-proxy's ServersInfoHandler answers."""

    def initialize(self, proxy: Proxy) -> None:
        self.proxy = proxy

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        if await asyncio.to_thread(_brings_others):
            self.proxy.load()
            self.redirect(self.request.uri)  # it answers that itself now
            return
        cards = [self._card(name, server) for name, server in self.proxy.servers.items()]
        self.finish({"server_processes": cards})

    def _card(self, name: str, server: Mapping[str, Any]) -> dict[str, Any]:
        entry = server.get("launcher_entry", {})
        shown = {
            "enabled": entry.get("enabled", True),
            "title": entry.get("title", name),
            "path_info": entry.get("path_info", f"{name}/"),
            "category": entry.get("category", "Notebook"),
        }
        if entry.get("icon_path"):
            shown["icon_url"] = url_path_join(self.base_url, "server-proxy/icon", name)
        tab = server.get("new_browser_tab", True)
        return {"name": name, "launcher_entry": shown, "new_browser_tab": tab}


def _brings_others() -> bool:
    """Return whether a package names programs of its own: reading that takes 50 ms."""
    from importlib.metadata import entry_points

    return bool(entry_points(group=_OTHERS))


class Icon(JupyterHandler):  # type: ignore[misc]
    """The picture of our cards."""

    @authenticated  # type: ignore[untyped-decorator]
    async def get(self) -> None:
        with open(_ICON, encoding="utf-8") as stream:
            picture = stream.read()
        self.set_header("Content-Type", "image/svg+xml")
        self.finish(picture)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "launcher_proxy"}]


def _load_jupyter_server_extension(app: Any) -> None:
    if find_spec(_PACKAGE) is None:  # somebody else's image
        return
    proxy = Proxy(app)
    base = re.escape(app.web_app.settings["base_url"])
    named = "|".join(map(re.escape, ("proxy", *proxy.servers)))
    routes: list[tuple[PathMatches, type[JupyterHandler], dict[str, Any]]] = [
        (Loading(proxy, rf"{base}({named})(/.*)?"), Cards, {"proxy": proxy}),
        (Unloaded(proxy, f"{base}server-proxy/servers-info"), Cards, {"proxy": proxy}),
        (Unloaded(proxy, f"{base}server-proxy/icon/.*"), Icon, {}),
    ]
    app.web_app.add_handlers(".*$", [Rule(*route) for route in routes])
