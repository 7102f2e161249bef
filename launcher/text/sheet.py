"""The sheet that a picture is drawn on: shapes with their places, from the top down.  Pure.

Units are those of the SVG's viewBox, one CSS pixel on a telephone.  Text is monospaced, so that its
width is known without a font.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from launcher.model.named_tuple import NamedTuple
from launcher.model.printable import printable

WIDTH = 380  # a telephone's: nothing needs to be shrunk to be read there
MARGIN = 8
FONT_SIZE = 11
LINE = 15  # from baseline to baseline
GAP = 6
_CHARACTER = 0.61 * FONT_SIZE  # the widest of the usual monospaced fonts have 0.602 em
_INSIDE = 4  # between the edge of a box and its text


class Label(NamedTuple):
    """One line of text, from its baseline."""

    x: float
    y: float
    text: str
    style: str = ""
    anchor: str = "start"


class Box(NamedTuple):
    """A rectangle; `hint` is shown under the pointer."""

    x: float
    y: float
    width: float
    height: float
    style: str
    hint: str = ""


class Line(NamedTuple):
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    style: str


Shape = Label | Box | Line


def fits(width: float) -> int:
    """Return how many characters have their place in a box."""
    return max(1, int((width - 2 * _INSIDE) / _CHARACTER))


def cut(text: str, width: float) -> str:
    """Return a text that fits a box, with "…" where some of it is missing."""
    most = fits(width)
    return text if len(text) <= most else f"{text[: most - 1]}…"


@dataclass
class Sheet:
    """What has been drawn, and how far down."""

    y: float = MARGIN
    shapes: list[Shape] = field(default_factory=list)

    def write(self, text: str, indent: float = 0, style: str = "") -> None:
        """Write a text over as many lines as it takes."""
        room = fits(WIDTH - 2 * (MARGIN + indent))
        for line in textwrap.wrap(printable(text), room):
            self.y += LINE
            self.shapes.append(Label(MARGIN + indent + _INSIDE, self.y - 4, line, style))

    def framed(self, indent: float, style: str, top: float) -> None:
        """Frame what was drawn since `top`, and leave a gap below it."""
        left = MARGIN + indent
        self.y += GAP
        self.shapes.append(Box(left, top, WIDTH - 2 * left, self.y - top, style))
        self.y += GAP

    def cells(self, count: int, columns: int, height: float, indent: float) -> Iterator[Box]:
        """Yield places of equal width, row by row, and go on below the last row."""
        left = MARGIN + indent
        width = (WIDTH - 2 * left - (columns - 1) * GAP) / columns
        top = self.y + GAP / 2
        for number in range(count):
            row, column = divmod(number, columns)
            place = (left + column * (width + GAP), top + row * (height + GAP))
            yield Box(*place, width, height, "")
        if count:
            self.y = top + -(-count // columns) * (height + GAP) - GAP / 2

    def card(self, place: Box, lines: Sequence[str], style: str, hint: str = "") -> None:
        """Draw a box with lines of text in its middle; the first is its name."""
        self.shapes.append(place._replace(style=style, hint=hint))
        for number, line in enumerate(lines):
            middle, baseline = place.x + place.width / 2, place.y + LINE * (number + 1) - 1
            kind = "strong" if number == 0 else ""
            self.shapes.append(
                Label(middle, baseline, cut(printable(line), place.width), kind, "middle")
            )
