"""A value that must not be seen.  By itself, since watch reads one and keeps what it imports."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Secret:
    """A value that prints as ***; only `render`, the banner and watch's request reveal it."""

    value: str

    def __repr__(self) -> str:
        return "***"

    def reveal(self) -> str:
        return self.value
