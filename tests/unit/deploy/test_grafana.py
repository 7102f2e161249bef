"""The dashboards and the alerts query what a box tells, and nothing else; panels do not overlap."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from testing.dashboards import BOARDS, FOLDER, panels, queries

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
METRIC = re.compile(r"\b(?:launcher|DCGM_FI)_\w+")


@pytest.fixture(scope="module")
def told() -> set[str]:
    """Return what docs/metrics.md has; a test of the exposition holds it against the code."""
    return set(re.findall(r"^\| `(\w+)` \|", DOCS.read_text(), re.MULTILINE))


@pytest.fixture(params=BOARDS, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> Any:
    return json.loads(request.param.read_text())


def test_every_metric_that_is_queried_is_told(board: Any, told: set[str]) -> None:
    asked = {name for query in queries(board) for name in METRIC.findall(query)}
    assert len(asked) > 8
    assert asked <= told


def test_every_metric_of_the_alerts_is_told(told: set[str]) -> None:
    text = (FOLDER / "alerts.yml").read_text()
    asked = set(METRIC.findall(text))
    assert len(asked) > 5
    assert asked <= told


def test_panels_do_not_overlap_and_fit_the_page(board: Any) -> None:
    places = [panel["gridPos"] for panel in panels(board)]
    for place in places:
        assert place["x"] + place["w"] <= 24
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)


def test_a_data_source_is_chosen_not_assumed(board: Any) -> None:
    chosen = {panel["datasource"]["uid"] for panel in panels(board) if panel["type"] != "row"}
    assert chosen == {"${datasource}"}
    ids = [panel["id"] for panel in panels(board)]
    assert len(ids) == len(set(ids))
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = {name for query in queries(board) for name in re.findall(r"\$(\w+)", query)}
    assert used - {"__range"} <= variables


def test_the_boards_are_known_by_different_names() -> None:
    boards = [json.loads(path.read_text()) for path in BOARDS]
    assert len({board["uid"] for board in boards}) == len({board["title"] for board in boards}) == 2
