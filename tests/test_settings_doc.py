"""docs/settings.md says what launcher/config.py does: its table is written from TABLE.

`pytest --update-golden` writes the table; the prose around it is by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher import config
from launcher.model import GpuRequest

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEADING = "## Every setting\n\n"


def accepted_by(row: config.Setting) -> str:
    """Return what a setting accepts, in the words in which it refuses a line break."""
    try:
        row.parse("\n")
    except ValueError as refused:
        return str(refused)
    return "any text"


def default_of(row: config.Setting) -> str:
    if isinstance(row.default, bool):
        return "on" if row.default else "off"
    if isinstance(row.default, float):
        return f"{row.default:g}"
    if row.default == GpuRequest():
        return "all"
    return str(row.default) if row.default not in (None, "") else "–"


def table() -> str:
    """Return the table of every setting in Markdown."""
    lines = ["| variable | also | default | accepts | meaning |", "|---|---|---|---|---|"]
    for row in config.TABLE:
        also = ", ".join(f"`{name}`" for name in row.aliases)
        cells = (f"`{row.name}`", also, default_of(row), accepted_by(row), row.help)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def test_the_page_has_the_table_of_the_code(request: pytest.FixtureRequest) -> None:
    before, heading, after = PAGE.read_text(encoding="utf-8").partition(HEADING)
    assert heading
    written, line_break, rest = after.partition("\n\n")
    if request.config.getoption("--update-golden"):
        PAGE.write_text(before + heading + table() + line_break[1:] + rest, encoding="utf-8")
        return
    assert f"{written}\n" == table()


def test_the_page_says_what_notebooks_do_not_inherit() -> None:
    _, _, after = PAGE.read_text(encoding="utf-8").partition("## What is not inherited")
    section, _, _ = after.partition("\n## ")
    assert set(re.findall(r"`(\w+)`", section)) == config.NOT_INHERITED


def test_the_page_names_no_setting_that_does_not_exist() -> None:
    known = {name for row in config.TABLE for name in (row.name, *row.aliases)}
    named = set(re.findall(r"\bLAUNCHER_[A-Z_]+\b", PAGE.read_text(encoding="utf-8")))
    assert named <= known
