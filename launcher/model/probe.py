"""What a look at one service saw."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Probe:
    """What a probe saw of one service."""

    service: str
    ready: bool
    detail: str  # why not, or what answered
