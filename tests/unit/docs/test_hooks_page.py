"""docs/hooks.md and docs/settings.md name the folders of scripts that are run, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from launcher.pid1.hooks import SOURCES
from launcher.supervise import post_start

DOCS = Path(__file__).parents[3] / "docs"
PLACE = r"`(/[\w./-]+?)/?`"


def rows() -> dict[str, str]:
    """Return each place in the page's table, and whether it counts for a command, too."""
    _, _, after = (DOCS / "hooks.md").read_text(encoding="utf-8").partition("## Where they are")
    table, _, _ = after.partition("\n## ")
    cells = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {place: row[2] for row in cells for place in re.findall(PLACE, row[0])}


def test_the_table_of_hooks_has_every_place_and_no_other() -> None:
    expected = {f"/{one.path}": "yes" if one.for_commands else "no" for one in SOURCES}
    assert rows() == {**expected, f"/{post_start.SCRIPT}": "no"}


def test_the_page_of_settings_does_not_say_the_contrary() -> None:
    text = " ".join((DOCS / "settings.md").read_text(encoding="utf-8").split())
    found = re.search(r"Of the script folders of other images, (.*?)`/etc/launcher/superv", text)
    assert found
    run, _, others = found[1].partition("Others, such as ")
    assert "hooks.md" in run
    assert not re.search(r"`/", run), "the places are in hooks.md alone"
    not_run = re.findall(r"`([\w.-]+)`", others.partition(" are not")[0])
    assert not_run
    names = [Path(place).name for place in rows()]
    assert not [name for name in not_run if name in names]
