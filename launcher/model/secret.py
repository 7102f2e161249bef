"""A value that must not be seen.  By itself, since watch reads one and keeps what it imports."""

from __future__ import annotations


class Secret:
    """A value that prints as ***; only `render`, the banner and watch's request reveal it.

    No tuple, which would give it away to whatever unpacks or prints one.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def reveal(self) -> str:
        return self._value
