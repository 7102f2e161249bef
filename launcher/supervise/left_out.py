"""What supervisor imports and its loop never uses: half of its imports, and two megabytes.

Its compatibility module brings along package metadata, e-mail, zip files, TLS, HTML and an HTTP
client, and its server a page for browsers.  Ours is a socket that answers XML-RPC.  While
supervisor is imported, stand-ins take their place; who uses one after all gets the real module
then, but for the two classes that only its clients and its page derive from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from launcher.process.stand_ins import StandIn, stand_ins, when_called


class _NoPage:
    """The handler of supervisor's page, which is not served."""

    def __init__(self, supervisord: object) -> None:
        pass

    def match(self, request: object) -> bool:
        return False


_AT_HAND: Mapping[str, Mapping[str, Any]] = {
    "decimal": {"Decimal": when_called("decimal", "Decimal")},
    "hashlib": {name: when_called("hashlib", name) for name in ("md5", "sha1")},
    "html": {"escape": when_called("html", "escape")},
    "html.entities": {},
    "html.parser": {"HTMLParser": type("HTMLParser", (), {})},
    "http": {},
    "http.client": {"HTTPConnection": type("HTTPConnection", (), {})},
    "importlib.metadata": {"EntryPoint": when_called("importlib.metadata", "EntryPoint")},
    "importlib.resources": {"files": when_called("importlib.resources", "files")},
    "mimetypes": {},
    "platform": {"node": lambda: os.uname().nodename},
    # Of logs without a name, which no program here has; to ask it tries to write a file.
    "tempfile": {"gettempdir": lambda: "/"},
    "traceback": {},
    "xml.etree.ElementTree": {"iterparse": when_called("xml.etree.ElementTree", "iterparse")},
}
_PAGE = "supervisor.web"  # imported when the socket is opened
_GUARDED = ("gettext", "gzip")  # who imports them does without


@contextmanager
def left_out() -> Iterator[None]:
    """Let supervisor be imported in the block without them."""
    sys.modules[_PAGE] = StandIn(_PAGE, {"supervisor_ui_handler": _NoPage})
    with stand_ins(_AT_HAND, missing=_GUARDED):
        yield
