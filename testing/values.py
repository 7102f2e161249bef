"""Values of the stages, varied: named tuples and dataclasses alike."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

T = TypeVar("T")


def replace(value: T, /, **changes: Any) -> T:
    """Return `value` with these fields changed."""
    changed: Any = value
    if hasattr(changed, "_replace"):
        return changed._replace(**changes)  # type: ignore[no-any-return]
    return dataclasses.replace(changed, **changes)  # type: ignore[no-any-return]
