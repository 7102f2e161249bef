"""Imports without what a package brings along and its use here never needs.

Stand-ins take the place of such modules while the package is imported.  Who uses one after all gets
the real module then.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class StandIn(ModuleType):
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


def when_called(module: str, name: str) -> Callable[..., Any]:
    """Return a function that imports the module's own when it is called."""
    return lambda *values, **named: getattr(importlib.import_module(module), name)(*values, **named)


@contextmanager
def stand_ins(
    at_hand: Mapping[str, Mapping[str, Any]], missing: Sequence[str] = ()
) -> Iterator[None]:
    """Let others be imported in the block without these modules.

    Args:
        at_hand: of each module, the names that are asked for while others are imported.
        missing: modules that who imports them does without; they raise ImportError.
    """
    placed = {
        name: StandIn(name, names) for name, names in at_hand.items() if name not in sys.modules
    }
    for name, stand_in in placed.items():
        package, _, own_name = name.rpartition(".")
        if package in placed:
            setattr(placed[package], own_name, stand_in)
    sys.modules.update(placed)
    absent = dict.fromkeys(name for name in missing if name not in sys.modules)
    sys.modules.update(absent)  # type: ignore[arg-type]  # None: an ImportError
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
        for name, stand_in in placed.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]
