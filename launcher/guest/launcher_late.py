"""What JupyterLab loads at every start and few ever use: httpx and requests, when they are used.

Its extension manager makes an HTTP client at once.  The two libraries, a transport, and a TLS
context with every certificate take a tenth of Jupyter's start.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from types import ModuleType
from typing import Any


class _Client:
    """An httpx.AsyncClient that is made at its first request."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    def __getattr__(self, name: str) -> Any:  # called for what is not there alone
        if "_client" not in self.__dict__:
            self._client = importlib.import_module("httpx").AsyncClient(**self._options)
        return getattr(self._client, name)


class _StandIn(ModuleType):
    """A module that is imported when something of it is asked for.

    importlib's LazyLoader does that at the next import statement, which looks at `__spec__`.
    """

    def __getattr__(self, name: str) -> Any:  # called for what is not there alone
        if name == "__version__":  # which is known without it
            return metadata.version(self.__name__)
        _put_away(self)
        return getattr(importlib.import_module(self.__name__), name)


_AT_HAND: dict[str, dict[str, Any]] = {"httpx": {"AsyncClient": _Client}, "requests": {}}


@contextmanager
def late_libraries() -> Iterator[None]:
    """Give what is imported in the block libraries that are loaded when they are used.

    Whoever imports them after it gets the libraries themselves: others make classes from theirs.
    """
    placed = [
        _place(name, spec, at_hand)
        for name, at_hand in _AT_HAND.items()
        if name not in sys.modules and (spec := importlib.util.find_spec(name))
    ]
    try:
        yield
    finally:
        for stand_in in placed:
            _put_away(stand_in)


def _place(name: str, spec: Any, at_hand: dict[str, Any]) -> ModuleType:
    stand_in = _StandIn(name)
    vars(stand_in).update(at_hand, __spec__=spec)
    sys.modules[name] = stand_in
    return stand_in


def _put_away(stand_in: ModuleType) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
