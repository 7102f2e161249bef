"""docs/operations.md has every Xid of the table, as it is there."""

from __future__ import annotations

from collections.abc import Iterator

from launcher.gpus.xid import ADVICE, XIDS
from testing import pages

FAULTS = {"program": "program", "driver": "driver", "card": "card", "link": "link",
          "power": "power, heat", "": "-"}  # fmt: skip


def codes(cell: str) -> Iterator[int]:
    """Yield 39, 40, 41, 70 for "39-41, 70"."""
    for part in cell.split(", "):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def test_the_page_says_of_each_what_the_table_does() -> None:
    rows = pages.table("operations.md", "An Xid", "Xid")
    found = {code: rest for cell, *rest in rows for code in codes(cell)}
    assert sum(len(list(codes(cell))) for cell, *_ in rows) == len(found)
    assert found == {
        code: [
            row.means,
            FAULTS[row.fault],
            "**yes**" if ADVICE[row.action].resets
            else "as the driver says" if row.action == "ask" else "no",
        ]
        for code, row in XIDS.items()
    }  # fmt: skip
