"""What the pages say of a finding, or of a line of the log: `launcher explain`.

The pages come with the package, so that no message points to what is not here.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from launcher.model.errors import BadSetting
from launcher.text.text import wrap

_DOCTOR, _LOG = "doctor.md", "operations.md"
_INSTALLED = Path(sys.prefix, "share", "pytorch-cuda-launcher")
_CHECKOUT = Path(__file__).resolve().parents[2] / "docs"
_LINES = "## What each line of the log means"
# What stands in a row for what differs from time to time.
_PLACEHOLDERS = {"NUMBER": r"[0-9.]+", "NAME": r"\S+", "TEXT": r".+"}
_PLACEHOLDER = re.compile(rf"(?<![A-Za-z])({'|'.join(_PLACEHOLDERS)})(?![A-Za-z])")


def findings() -> list[str]:
    """Return the id of every finding that the doctor's page has."""
    return re.findall(r"^### ([a-z_]+\.\w+)$", _page(_DOCTOR), re.MULTILINE)


def explain(what: str) -> str:
    """Return the section of a finding's id, or what a line of the log means.

    Raises BadSetting where no page has it, with the nearest id.
    """
    wanted = what.strip()
    if section := _section(wanted):
        return section
    if rows := list(_rows(wanted)):
        return "\n".join(rows)
    near = difflib.get_close_matches(wanted[:80], findings(), n=3)
    hint = f"; did you mean: {', '.join(near)}?" if near else "; all ids: launcher explain --list"
    raise BadSetting(f"no page explains {wanted[:80]!r}{hint}")


def _section(id: str) -> str | None:
    _, found, below = _page(_DOCTOR).partition(f"\n### {id}\n")
    if not found or not id:
        return None
    text = re.split(r"\n#{2,3} ", below)[0].strip()
    lines = (line for part in _plain(text).splitlines() for line in wrap("", part, "  "))
    return "\n".join([id, "", *lines])


def _rows(line: str) -> Iterator[str]:
    """Yield what the page says of a line; several rows may fit, the most exact first."""
    text = line if line.startswith("launcher") else f"launcher: {line}"
    table = _page(_LOG).partition(f"\n{_LINES}\n")[2].partition("\n## ")[0]
    fitting = []
    for row in table.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip().strip("|"))]
        for literal in re.findall(r"`([^`]+)`", cells[0]) if len(cells) == 3 else ():
            if re.fullmatch(_pattern(literal), text):
                fitting.append((len(_PLACEHOLDER.sub("", literal)), literal, cells))
    for _, literal, (_, means, fix) in sorted(fitting, reverse=True)[:1]:
        yield literal
        yield ""
        yield from wrap("", f"Means: {_plain(means)}", "  ")
        if fix.strip("- "):
            yield from wrap("", f"Fix: {_plain(fix).removeprefix('- ; ')}", "  ")


def _pattern(text: str) -> str:
    parts = _PLACEHOLDER.split(text)
    return "".join(_PLACEHOLDERS.get(part) or re.escape(part) for part in parts)


def _plain(text: str) -> str:
    """Return Markdown as a terminal shows it best."""
    text = re.sub(r"\[([^]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^\* \*\*(\w[\w ]*)\*\* ", r"\1: ", text, flags=re.MULTILINE)
    return text.replace("**", "").replace("`", "").replace("\\|", "|")


def _page(name: str) -> str:
    for folder in (_INSTALLED, _CHECKOUT):
        try:
            return (folder / name).read_text(encoding="utf-8")
        except OSError:
            continue
    raise BadSetting(f"{name} was not installed with the launcher")
