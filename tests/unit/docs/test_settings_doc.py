"""docs/settings.md says what the code does: its tables are written from those of the code.

`pytest --update-golden` writes the tables; the prose around them is by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.model.plan import GpuRequest
from launcher.plan.environment import OF_A_PROCESS, WAYS_IN
from launcher.settings import load
from launcher.settings.other_images import NO_SETTING, NOT_SUPPORTED, ORIGIN

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def accepted_by(row: load.Setting) -> str:
    """Return what a setting accepts, in the words in which it refuses a line break."""
    try:
        row.parse("\n")
    except ValueError as refused:
        return str(refused)
    return "any text"


def default_of(row: load.Setting) -> str:
    if isinstance(row.default, bool):
        return "on" if row.default else "off"
    if isinstance(row.default, float):
        return f"{row.default:g}"
    if row.default == GpuRequest():
        return "all"
    if type(row.default) is tuple:
        return ",".join(row.default) or "–"
    return str(row.default) if row.default not in (None, "", ()) else "–"


def table() -> str:
    """Return the table of every setting in Markdown."""
    lines = ["| variable | also | default | accepts | meaning |", "|---|---|---|---|---|"]
    for row in load.TABLE:
        also = ", ".join(f"`{name}`" for name in row.aliases)
        cells = (f"`{row.name}`", also, default_of(row), accepted_by(row), row.help)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def names_that_work() -> str:
    """Return the table of names that other images made known, and what each does here."""
    settings = {name: row.name for row in load.TABLE for name in (row.name, *row.aliases)}
    lines = ["| name | known from | here |", "|---|---|---|"]
    for name, of in ORIGIN.items():
        does = "the same" if settings[name] == name else f"`{settings[name]}`"
        lines.append(f"| `{name}` | {of} | {does} |")
    lines += [f"| `{name}` | {of} | {what} |" for name, (of, what) in NO_SETTING.items()]
    return "\n".join(lines) + "\n"


def names_without_effect() -> str:
    """Return the table of names that do nothing here, and what to use instead."""
    lines = ["| name | known from | use instead |", "|---|---|---|"]
    lines += [f"| `{row.name}` | {row.of} | {row.instead} |" for row in NOT_SUPPORTED]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## Every setting", table),
        ("### Names that work", names_that_work),
        ("### Names without effect", names_without_effect),
    ],
)
def test_the_page_has_the_table_of_the_code(
    heading: str, table: Callable[[], str], request: pytest.FixtureRequest
) -> None:
    before, found, after = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n\n")
    assert found
    prose, bar, after = after.partition("| ")
    written, line_break, rest = (bar + after).partition("\n\n")
    if request.config.getoption("--update-golden"):
        page = (before, found, prose, table(), line_break[1:], rest)
        PAGE.write_text("".join(page), encoding="utf-8")
        return
    assert f"{written}\n" == table()


def test_the_page_says_what_notebooks_do_not_inherit() -> None:
    _, _, after = PAGE.read_text(encoding="utf-8").partition("## What is not inherited")
    section, _, _ = after.partition("\n## ")
    assert set(re.findall(r"`(\w+)`", section)) == WAYS_IN | OF_A_PROCESS


def test_the_page_names_no_setting_that_does_not_exist() -> None:
    known = {name for row in load.TABLE for name in (row.name, *row.aliases)}
    named = set(re.findall(r"\bLAUNCHER_[A-Z_]+\b", PAGE.read_text(encoding="utf-8")))
    assert named <= known


def test_the_readme_names_settings_that_exist() -> None:
    known = {name for row in load.TABLE for name in (row.name, *row.aliases)}
    _, _, after = (
        (PAGE.parents[1] / "README.md")
        .read_text(encoding="utf-8")
        .partition("| setting | what it does |\n|---|---|\n")
    )
    rows, _, _ = after.partition("\n\n")
    named = {
        name for line in rows.splitlines() for name in re.findall(r"`(\w+)", line.split("|")[1])
    }
    assert len(named) > 10
    assert named <= known
