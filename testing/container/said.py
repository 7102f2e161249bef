"""What boxes say, held against docs/operations.md: no line of ours that it does not explain."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from testing import pages

_OURS = ("launcher: ", "launcher | ")


@functools.cache
def documented() -> tuple[str, ...]:
    """Return the regular expression of each row; of those that are several lines, first."""
    rows = pages.table("operations.md", "What each line of the log means")
    lines = [pages.literals(row[0]) for row in rows]
    return tuple("\n".join(map(pages.pattern, it)) for it in sorted(lines, key=len, reverse=True))


def unexplained(log: str) -> list[str]:
    """Return our lines of a log that the page does not have.  A last line that is cut is let be."""
    *whole, _ = log.replace("\r\n", "\n").split("\n")
    text = "".join(f"{line}\n" for line in whole if line.startswith(_OURS))
    for line in documented():
        text = re.sub(rf"^{line}\n", "", text, flags=re.MULTILINE)
    return text.splitlines()


def assert_explained(logs: Iterable[str]) -> None:
    lines = dict.fromkeys(line for log in logs for line in unexplained(log))
    assert not lines, "docs/operations.md does not have: " + "\n".join(lines)
