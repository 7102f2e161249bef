"""When an Xid is said: the first at once, those that follow as a number now and then.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from launcher.gpus.xid import is_worth_repeating
from launcher.model.named_tuple import NamedTuple

_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # seconds


class Kind(NamedTuple):
    """What counts as the same."""

    gpu: int
    code: int


class Again(NamedTuple):
    """How often one came that was said before."""

    kind: Kind
    count: int  # type: ignore[assignment]
    seconds: float  # in so long


class _Said(NamedTuple):
    since: float  # when it was said last: CLOCK_MONOTONIC, seconds
    pause: float = _PAUSE
    count: int = 0  # type: ignore[assignment]  # that came meanwhile


class XidNews:
    """Knows what the log has of each kind."""

    def __init__(self, known: Iterable[Kind], now: float) -> None:
        """Begin; `known` are those that the log has already."""
        self._said = {kind: _Said(now) for kind in known}

    def see(self, kind: Kind, count: int, now: float) -> bool:
        """Return whether this is the first of its kind, and so news."""
        if kind not in self._said:
            self._said[kind] = _Said(now, count=count - 1)
            return True
        said = self._said[kind]
        self._said[kind] = said._replace(count=said.count + count)
        return False

    def due(self, now: float) -> list[Again]:
        """Return what is to be said now of those that came again; each time after a longer pause.

        What needs nobody to do anything is counted, and not said again.
        """
        found = []
        for kind, said in self._said.items():
            if said.count and is_worth_repeating(kind.code) and now >= said.since + said.pause:
                found.append(Again(kind, said.count, now - said.since))
                longer = min(2 * said.pause, _LONGEST_PAUSE)
                self._said[kind] = _Said(now, longer)
        return found

    def next_due(self) -> float | None:
        """Return when `due` has something, CLOCK_MONOTONIC in seconds; None = never."""
        waiting = (
            said.since + said.pause
            for kind, said in self._said.items()
            if said.count and is_worth_repeating(kind.code)
        )
        return min(waiting, default=None)
