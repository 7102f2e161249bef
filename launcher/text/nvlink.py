"""NVLink islands: a bar for switches, a ring with a line for each pair that is joined.  Pure.

Never a line a pair through a switch: sixteen GPUs would be 120 lines that all say the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import cos, pi, sin

from launcher.gpus.topology import cell, islands, name_gpus, pair_table
from launcher.model.machine import GpuReport, Pair
from launcher.text.sheet import GAP, LINE, MARGIN, WIDTH, Box, Label, Line, Sheet

_IN_A_ROW = 8
_CHIP = 20  # height
_STUB = 12
_RING_CHIP = 48  # width
_WIDEST_LINE = 4  # classes link1 … link4
_SAMPLE = 36  # of a line, in the legend


def draw_islands(sheet: Sheet, report: GpuReport) -> None:
    """Draw every set of GPUs that NVLink joins."""
    table = pair_table(report)
    for island in islands(report):
        if len(island) < 2:
            continue
        top = sheet.y
        sheet.write(f"NVLink: {name_gpus(island)}", style="strong")
        pairs = [table[a, b] for a in island for b in island if a < b and (a, b) in table]
        linked = [pair for pair in pairs if pair.nvlinks]
        if any(pair.via in ("switch", "hidden switch") for pair in linked):
            _draw_bar(sheet, island, linked)
        else:
            _draw_ring(sheet, island, linked)
        sheet.framed(0, "node", top)


def _draw_bar(sheet: Sheet, island: Sequence[int], linked: Sequence[Pair]) -> None:
    counts = sorted({pair.nvlinks for pair in linked})
    told = f"NV{counts[0]}" + (f" to NV{counts[-1]}" if len(counts) > 1 else "")
    hidden = " (not passed into this machine)" if linked[0].via == "hidden switch" else ""
    sheet.y += GAP
    _draw_chips(sheet, island[:_IN_A_ROW], below=True)
    bar = Box(MARGIN + 8, sheet.y, WIDTH - 2 * MARGIN - 16, _CHIP, "bar")
    sheet.card(bar, [f"NVSwitch, {told}{hidden}"], "bar")
    sheet.y += _CHIP
    for start in range(_IN_A_ROW, len(island), _IN_A_ROW):
        sheet.y += _STUB
        _draw_chips(sheet, island[start : start + _IN_A_ROW], below=False)


def _draw_chips(sheet: Sheet, indices: Sequence[int], *, below: bool) -> None:
    """Draw a row of GPUs with a stub each, down to the bar or up to it."""
    top = sheet.y
    for index, place in zip(indices, sheet.cells(len(indices), _IN_A_ROW, _CHIP, 8), strict=True):
        chip = place._replace(y=top)
        sheet.card(chip, [str(index)], "gpu", f"GPU {index}")
        edge = top + _CHIP if below else top - _STUB
        middle = chip.x + chip.width / 2
        sheet.shapes.append(Line(middle, edge, middle, edge + _STUB, "link2"))
    sheet.y = top + _CHIP + (_STUB if below else 0)


def _draw_ring(sheet: Sheet, island: Sequence[int], linked: Sequence[Pair]) -> None:
    """Draw the GPUs in a circle, from the top on; two of them beside each other."""
    count = len(island)
    radius = min(150, max(60, 11 * count))
    down, start = (12.0, pi) if count == 2 else (radius + 12.0, -pi / 2)
    centre = WIDTH / 2, sheet.y + GAP + down
    places = {
        index: (
            centre[0] + radius * cos(start + 2 * pi * number / count),
            centre[1] + radius * sin(start + 2 * pi * number / count),
        )
        for number, index in enumerate(island)
    }
    counts = sorted({pair.nvlinks for pair in linked})
    styles = {links: f"link{min(rank, _WIDEST_LINE)}" for rank, links in enumerate(counts, start=1)}
    for pair in linked:
        sheet.shapes.append(Line(*places[pair.a], *places[pair.b], styles[pair.nvlinks]))
    for index, (x, y) in places.items():
        chip = Box(x - _RING_CHIP / 2, y - _CHIP / 2, _RING_CHIP, _CHIP, "gpu")
        sheet.card(chip, [f"GPU {index}"], "gpu")
    sheet.y = centre[1] + down + GAP
    _draw_legend(sheet, linked, styles)


def _draw_legend(sheet: Sheet, linked: Sequence[Pair], styles: dict[int, str]) -> None:
    pairs = Counter(pair.nvlinks for pair in linked)
    names = {pair.nvlinks: cell(pair) for pair in linked}
    for links, style in styles.items():
        left, middle = MARGIN + 12, sheet.y + LINE - 8
        sheet.shapes.append(Line(left, middle, left + _SAMPLE, middle, style))
        noun = "pair" if pairs[links] == 1 else "pairs"
        text = f"{names[links]}: {pairs[links]} {noun}"
        sheet.shapes.append(Label(left + _SAMPLE + 8, sheet.y + LINE - 4, text))
        sheet.y += LINE
