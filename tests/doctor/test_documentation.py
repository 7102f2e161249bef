"""docs/doctor.md has a section for every check, with a source, and the list of the scenarios.

`pytest --update-golden` writes that list; the rest is by hand.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from launcher.checks import CHECKS, LAYERS
from testing.doctor.scenario import Scenario
from tests.doctor.causes import CAUSES

PAGE = Path(__file__).parents[2] / "docs" / "doctor.md"
HEADING = "## Every scenario\n\n"
LABELS = ["Means", "Cause", "Fix", "How we know"]

# What counts as a source: something that a reader can look up.
SOURCE = re.compile(
    r"[\w.-]+/[\w.-]+#\d+"  # an issue
    r"|\w+/[\w./-]+\.\w+"  # a file of a public repository
    r"|\b\w+\.h\b|\b[\w.-]+\(\d\)|\bpci\.ids\b"  # a header, a manual page, a list
    r"|\b(?:[Rr]eference|API|[Gg]uide|documentation|manual|release notes|IEEE \d+)\b"
    r"|\bNVIDIA\b[^.]*\"[^\"]+\"",  # a page of NVIDIA's, by its title
    re.DOTALL,
)


def sections() -> dict[str, tuple[str, str]]:
    """Return layer and text of each check's section."""
    text = PAGE.read_text(encoding="utf-8")
    found: dict[str, tuple[str, str]] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        layer = re.match(r"(\d) · (\w+)\n", part)
        for section in re.split(r"^### ", part, flags=re.MULTILINE)[1:]:
            name, _, body = section.partition("\n")
            if "." in name:
                assert layer, f"{name} is not below a layer"
                assert name not in found, f"{name} is there twice"
                found[name] = (layer[2], body)
    return found


def table() -> str:
    """Return the table of every scenario in Markdown."""
    lines = ["| what is wrong | what the doctor says | exit status |", "|---|---|---|"]
    for scenario in CAUSES:
        lines.append(f"| {scenario.cause} | {_says(scenario)} | {scenario.exit_status} |")
    return "\n".join(lines) + "\n"


def _says(scenario: Scenario) -> str:
    if scenario.expects:
        return f"`{scenario.expects}`"
    return f"`{scenario.warns[0]}` (warning)"


def test_every_check_has_its_section_and_the_reverse() -> None:
    assert set(sections()) == {check.id for check in CHECKS}


def test_sections_are_below_their_layers_in_order() -> None:
    layers = [layer for layer, _ in sections().values()]
    assert [name.partition(".")[0] for name in sections()] == layers
    assert list(dict.fromkeys(layers)) == list(LAYERS)


@pytest.mark.parametrize("check_id", [check.id for check in CHECKS])
def test_a_section_says_all_of_it_with_a_source(check_id: str) -> None:
    _, body = sections()[check_id]
    assert re.findall(r"^\* \*\*(.+?)\*\* \S", body, flags=re.MULTILINE) == LABELS
    known = body.partition("**How we know**")[2]
    assert SOURCE.search(known), f"no source in: {known.strip()}"


def test_the_page_lists_every_scenario(request: pytest.FixtureRequest) -> None:
    before, heading, after = PAGE.read_text(encoding="utf-8").partition(HEADING)
    assert heading
    written, line_break, rest = after.partition("\n\n")
    if request.config.getoption("--update-golden"):
        PAGE.write_text(before + heading + table() + line_break[1:] + rest, encoding="utf-8")
        return
    assert written.rstrip("\n") + "\n" == table()
