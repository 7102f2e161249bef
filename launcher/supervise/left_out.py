"""What supervisor imports and its loop never uses: half of its imports, and two megabytes.

Its compatibility module brings along package metadata, e-mail, zip files, TLS, HTML and an HTTP
client, and its server a page for browsers.  Ours is a socket that answers XML-RPC.  While
supervisor is imported, stand-ins take their place; who uses one after all gets the real module
then, but for the two classes that only its clients and its page derive from.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """A module that is imported when something of it is asked for that is not at hand."""

    def __init__(self, name: str, at_hand: Mapping[str, Any]) -> None:
        super().__init__(name)
        vars(self).update(at_hand)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system looks for
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _when_called(module: str, name: str) -> Callable[..., Any]:
    return lambda *values, **named: getattr(importlib.import_module(module), name)(*values, **named)


class _NoPage:
    """The handler of supervisor's page, which is not served."""

    def __init__(self, supervisord: object) -> None:
        pass

    def match(self, request: object) -> bool:
        return False


_AT_HAND: Mapping[str, Mapping[str, Any]] = {
    "decimal": {"Decimal": _when_called("decimal", "Decimal")},
    "hashlib": {name: _when_called("hashlib", name) for name in ("md5", "sha1")},
    "html": {"escape": _when_called("html", "escape")},
    "html.entities": {},
    "html.parser": {"HTMLParser": type("HTMLParser", (), {})},
    "http": {},
    "http.client": {"HTTPConnection": type("HTTPConnection", (), {})},
    "importlib.metadata": {"EntryPoint": _when_called("importlib.metadata", "EntryPoint")},
    "importlib.resources": {"files": _when_called("importlib.resources", "files")},
    "mimetypes": {},
    "platform": {"node": lambda: os.uname().nodename},
    # Of logs without a name, which no program here has; to ask it tries to write a file.
    "tempfile": {"gettempdir": lambda: "/"},
    "traceback": {},
    "xml.etree.ElementTree": {"iterparse": _when_called("xml.etree.ElementTree", "iterparse")},
}
_PAGE = "supervisor.web"  # imported when the socket is opened
_GUARDED = ("gettext", "gzip")  # who imports them does without


@contextmanager
def left_out() -> Iterator[None]:
    """Let supervisor be imported in the block without them."""
    placed = {
        name: _StandIn(name, at_hand)
        for name, at_hand in _AT_HAND.items()
        if name not in sys.modules
    }
    for name, stand_in in placed.items():
        package, _, own_name = name.rpartition(".")
        if package in placed:
            setattr(placed[package], own_name, stand_in)
    sys.modules.update(placed)
    sys.modules[_PAGE] = _StandIn(_PAGE, {"supervisor_ui_handler": _NoPage})
    missing = dict.fromkeys(name for name in _GUARDED if name not in sys.modules)
    sys.modules.update(missing)  # type: ignore[arg-type]  # None: an ImportError
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
        for name, stand_in in placed.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
