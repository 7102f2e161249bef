"""Values to JSON and back, so that every stage's value can be printed and re-read.

Pure.  Only the shapes that `model` uses are known: named tuples, dataclasses, tuples, frozensets,
optional and plain JSON types; anything else is a programming error and raises TypeError.
"""

from __future__ import annotations

import json
import types
import typing
from functools import cache
from typing import Any, TypeVar

from launcher.model.secret import Secret

T = TypeVar("T")


def to_json(value: Any, reveal: bool = False, indent: int | None = None) -> str:
    """Return `value` as JSON, in ASCII whatever it holds; secrets are "***" unless `reveal`."""
    return json.dumps(_plain(value, reveal), indent=indent)


def from_json(kind: type[T], text: str | bytes) -> T:
    """Rebuild a `kind` from what `to_json(…, reveal=True)` wrote.

    Raises ValueError, TypeError or KeyError when the text is something else.
    """
    result = _typed(kind, json.loads(text))
    assert isinstance(result, kind)
    return result


def _plain(value: Any, reveal: bool) -> Any:
    if isinstance(value, Secret):
        return value.reveal() if reveal else repr(value)
    if names := _names(type(value)):
        return {name: _plain(getattr(value, name), reveal) for name in names}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_plain(item, reveal) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, reveal) for key, item in value.items()}
    return value


def _names(kind: Any) -> tuple[str, ...]:
    """Return the fields of a named tuple or of a dataclass; of anything else there are none."""
    found: tuple[str, ...] = getattr(kind, "_fields", ())
    return found or tuple(getattr(kind, "__dataclass_fields__", ()))


@cache
def _field_types(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _typed(kind: Any, data: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (arg for arg in args if arg is not type(None))
        return None if data is None else _typed(inner, data)
    if origin is tuple:
        item_types = (args[0],) * len(data) if args[-1] is ... else args
        return tuple(_typed(t, item) for t, item in zip(item_types, data, strict=True))
    if origin is frozenset:
        return frozenset(data)
    if origin is dict:
        return {str(key): _typed(args[1], item) for key, item in data.items()}
    if kind is Secret:
        return Secret(data)
    if _names(kind):
        hints = _field_types(typing.cast(type, kind))
        known = {name: _typed(hint, data[name]) for name, hint in hints.items() if name in data}
        return typing.cast(type, kind)(**known)
    if kind is float:
        return float(data)
    if not isinstance(data, kind):
        raise TypeError(f"expected {kind.__name__}, found {data!r}")
    return data
