"""The Grafana dashboards, as what they ask Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana"
BOARDS = sorted(FOLDER.glob("*.json"))


def panels(board: Any) -> Iterator[Any]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries(board: Any) -> Iterator[str]:
    """Yield each query as it is written, with its variables."""
    for panel in panels(board):
        for target in panel.get("targets", ()):
            yield target["expr"]
