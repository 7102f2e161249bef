"""The topology as a picture: SVG that needs nothing beside itself.  Pure.

`launcher topo --svg FILE` writes it.  For who cannot see it, its description is what `launcher
topo` prints (SVG 2, `title` and `desc`; WAI-ARIA `img`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from launcher.gpus.oddities import oddities
from launcher.gpus.visibility import Visibility, one_line
from launcher.model.machine import GpuReport, Nic
from launcher.model.printable import printable, printable_text
from launcher.text.nvlink import draw_islands
from launcher.text.sheet import FONT_SIZE, GAP, MARGIN, WIDTH, Box, Label, Line, Shape, Sheet
from launcher.text.tree import draw_nodes

# Text has a contrast of 4.5:1 with what is behind it, lines 3:1 (WCAG 2.2, 1.4.3 and 1.4.11).
LIGHT: Mapping[str, str] = {
    "text": "#1b1f24", "back": "#ffffff", "node": "#f3f5f7", "switch": "#e6ebf0",
    "card": "#ffffff", "seen": "#d9f2de", "edge": "#656d76", "link": "#1a6e2e", "odd": "#a11a1f",
}  # fmt: skip
DARK: Mapping[str, str] = {
    "text": "#e8ecf0", "back": "#14171a", "node": "#1d2126", "switch": "#2a3037",
    "card": "#14171a", "seen": "#17401f", "edge": "#919aa4", "link": "#5fc477", "odd": "#ff9a94",
}  # fmt: skip

_STYLE = """\
svg.topology{max-width:720px;color-scheme:light dark;@light}
@media screen and (prefers-color-scheme:dark){svg.topology{@dark}}
.topology text{font:@sizepx ui-monospace,"DejaVu Sans Mono",monospace;fill:var(--text)}
.topology .strong{font-weight:bold}
.topology .odd{fill:var(--odd)}
.topology rect{stroke:var(--edge);rx:4px}
.topology .back{fill:var(--back);stroke:none}
.topology .node{fill:var(--node)}
.topology .switch{fill:var(--switch)}
.topology .gpu,.topology .nic{fill:var(--card)}
.topology .seen{fill:var(--seen);stroke:var(--link);stroke-width:2}
.topology .hidden{stroke-dasharray:4 3}
.topology .lost{fill:var(--card);stroke:var(--odd);stroke-width:2;stroke-dasharray:2 3}
.topology .bar{fill:var(--seen);stroke:var(--link)}
.topology line{stroke:var(--link)}
.topology .link1{stroke-width:1.5}
.topology .link2{stroke-width:3}
.topology .link3{stroke-width:3;stroke-dasharray:7 3}
.topology .link4{stroke-width:3;stroke-dasharray:2 3}
"""


def picture(
    report: GpuReport,
    nics: Sequence[Nic],
    described: Sequence[str],
    seen: Visibility | None = None,
) -> str:
    """Return the SVG of a machine whose driver answers.

    Args:
        described: the lines of `launcher topo`, for who cannot see the picture.
        seen: what CUDA sees; None = not known here, so nothing is marked.
    """
    sheet = Sheet()
    draw_nodes(sheet, report, nics, None if seen is None else _marks(report, seen))
    _draw_lost(sheet, report)
    draw_islands(sheet, report)
    if seen is not None:
        sheet.write(f"CUDA sees {one_line(seen)}", style="strong")
    for finding in oddities(report):
        sheet.write(f"! {finding.what}", style="odd")
    return _document(sheet, _title(report), described)


def _marks(report: GpuReport, seen: Visibility) -> dict[int, str]:
    """Return what CUDA calls each GPU that it sees, or how many of its instances it sees."""
    marks = {}
    for gpu in report.gpus:
        if gpu.uuid in seen.devices:
            number = seen.devices.index(gpu.uuid)
            marks[gpu.index] = f"CUDA {number}" if seen.certain else "CUDA ?"
        elif instances := set(gpu.mig_uuids) & set(seen.devices):
            marks[gpu.index] = f"MIG: {len(instances)} of {len(gpu.mig_devices)}"
    return marks


def _draw_lost(sheet: Sheet, report: GpuReport) -> None:
    if not report.lost:
        return
    top = sheet.y
    sheet.write("lost: launcher doctor says what mends it", style="strong")
    places = sheet.cells(len(report.lost), 1, 22, 8)
    for lost, place in zip(report.lost, places, strict=True):
        sheet.card(place, [f"GPU {lost.index}: {lost.error}"], "lost")
    sheet.framed(0, "node", top)


def _title(report: GpuReport) -> str:
    count = len(report.gpus) + len(report.lost)
    return f"How the {count} GPUs of this machine are connected" if count > 1 else "The GPU here"


# --- the markup --------------------------------------------------------------------------------


def _document(sheet: Sheet, title: str, described: Sequence[str]) -> str:
    height = round(sheet.y + GAP + MARGIN)
    style = _STYLE.replace("@light", _colors(LIGHT)).replace("@dark", _colors(DARK))
    style = style.replace("@size", str(FONT_SIZE))
    layers = sorted(sheet.shapes, key=_layer)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="topology" viewBox="0 0 {WIDTH} {height}"'
        ' role="img"'
        ' aria-labelledby="topology-title topology-desc">',
        f'<title id="topology-title">{escape(title)}</title>',
        f'<desc id="topology-desc">{escape(printable_text(chr(10).join(described)))}</desc>',
        f"<style>{style}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
        *map(_markup, layers),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _colors(palette: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in palette.items())


def _layer(shape: Shape) -> int:
    """What frames comes first, then lines, what stands on them, and words."""
    if isinstance(shape, Label):
        return 4
    if isinstance(shape, Line):
        return 2
    return {"node": 0, "switch": 1}.get(shape.style, 3)


def _markup(shape: Shape) -> str:
    if isinstance(shape, Label):
        return (
            f'<text x="{shape.x:.1f}" y="{shape.y:.1f}"{_class(shape.style)}'
            f' text-anchor="{shape.anchor}">{escape(shape.text)}</text>'
        )
    if isinstance(shape, Line):
        ends = f'x1="{shape.x1:.1f}" y1="{shape.y1:.1f}" x2="{shape.x2:.1f}" y2="{shape.y2:.1f}"'
        return f"<line {ends}{_class(shape.style)}/>"
    return _rectangle(shape)


def _rectangle(box: Box) -> str:
    where = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    if not box.hint:
        return f"<rect {where}{_class(box.style)}/>"
    hint = escape(printable(box.hint))
    return f"<rect {where}{_class(box.style)}><title>{hint}</title></rect>"


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""
