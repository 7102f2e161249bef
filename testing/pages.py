"""The tables of docs/ as data, so that a page can be held against the code, or a running box."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"

Row = tuple[str, ...]

# What stands in a page for what differs from time to time.
PLACEHOLDERS = {"NUMBER": r"[0-9.]+", "NAME": r"\S+", "TEXT": r".+"}
_PLACEHOLDER = re.compile(rf"(?<![A-Za-z])({'|'.join(PLACEHOLDERS)})(?![A-Za-z])")


def table(page: str, heading: str, first: str = "") -> list[Row]:
    """Return the rows of a table below a heading of docs/PAGE, cells as they are written.

    Args:
        first: what its first column is called, where there are several tables; else the first.

    Raises AssertionError where there is no such heading, or no such table below it.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    _, found, below = text.partition(f"\n## {heading}\n")
    assert found, f"docs/{page} has no heading {heading!r}"
    lines = below.partition("\n## ")[0].splitlines()
    heads = (number for number, line in enumerate(lines) if line.startswith(f"| {first}"))
    head = next(heads, None)
    assert head is not None, f"docs/{page} has no table {first!r} below {heading!r}"
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[head + 2 :])
    return [_cells(line) for line in rows]


def _cells(line: str) -> Row:
    r"""Split a row at its bars; one that belongs to a cell is written \|."""
    inside = line.strip().removeprefix("|").removesuffix("|")
    return tuple(cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inside))


def literals(cell: str) -> list[str]:
    """Return what a cell has between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def pattern(text: str) -> str:
    """Return the regular expression for a text with placeholders."""
    parts = _PLACEHOLDER.split(text)
    return "".join(PLACEHOLDERS.get(part) or re.escape(part) for part in parts)
