"""What may be printed of what others say: one line, of which a terminal obeys nothing.  Pure."""

from __future__ import annotations

import re

# Controls (ECMA-48) but for the tab, separators of lines, what turns the direction of text; and
# bytes that are no UTF-8, as which a locale's terminal takes no text (os.fsdecode).
_OBEYED = "[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
# The same in UTF-8, without what sets a colour (SGR), which programs and people like.
_OBEYED_BYTES = rb"\x1b(?!\[[0-9;]{0,20}m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]"
_COLOR_OFF = b"\x1b[0m"


def printable(text: str) -> str:
    r"""Return a text in one line, with what a terminal would obey written out, as `\x1b`."""
    return re.sub(_OBEYED, _escaped, text)


def _escaped(found: re.Match[str]) -> str:
    number = ord(found[0])
    return rf"\x{number - 0xDC00:02x}" if 0xDC80 <= number <= 0xDCFF else repr(found[0])[1:-1]


def printable_text(text: str) -> str:
    """Return lines of ours in which others' words may stand, each as `printable_line` would."""
    lines = text.encode(errors="surrogateescape").split(b"\n")
    return b"\n".join(map(printable_line, lines)).decode(errors="surrogateescape")


def printable_line(line: bytes) -> bytes:
    r"""Return a line of a program's output so; colours may stay, and end with it."""
    line = line.removesuffix(b"\r")
    shown = re.sub(_OBEYED_BYTES, _written_out, line)
    return shown + _COLOR_OFF if b"\x1b" in shown and not shown.endswith(_COLOR_OFF) else shown


def _written_out(found: re.Match[bytes]) -> bytes:
    return repr(found[0])[2:-1].encode()
