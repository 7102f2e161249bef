"""What a terminal would obey is written out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.model.printable import printable, printable_line, printable_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, \t日本語 ✓", "plain, \t日本語 ✓"),
        ("2.6\nlauncher: forged", r"2.6\nlauncher: forged"),
        ("\rlauncher: over it", r"\rlauncher: over it"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("a\u2028b\u202eb", r"a\u2028b\u202eb"),
    ],
)
def test_text(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"plain \xc3\xa9 \xff \t", b"plain \xc3\xa9 \xff \t"),
        (b"windows\r", b"windows"),
        (b" 10%\r 20%\rlauncher: forged", rb" 10%\r 20%\rlauncher: forged"),
        (b"\x1b[31mred\x1b[0m", b"\x1b[31mred\x1b[0m"),
        (b"\x1b[8mhides what follows", b"\x1b[8mhides what follows\x1b[0m"),
        (b"\x1b[1A\x1b[2K\x1b]0;title\x07", rb"\x1b[1A\x1b[2K\x1b]0;title\x07"),
        (b"\xc2\x9b2J", rb"\xc2\x9b2J"),
    ],
)
def test_a_line_of_a_program(line: bytes, shown: bytes) -> None:
    assert printable_line(line) == shown


@given(st.binary(max_size=60))
def test_any_line_moves_nothing(line: bytes) -> None:
    shown = re.sub(rb"\x1b\[[0-9;]*m", b"", printable_line(line))
    assert not re.search(rb"[\x00-\x08\x0a-\x1f\x7f]|\xc2[\x80-\x9f]", shown.replace(b"\n", b""))


@given(st.text(max_size=60))
def test_any_text_is_one_line(text: str) -> None:
    assert len(printable(text).splitlines()) <= 1


def test_lines_of_ours_stay_lines() -> None:
    text = "\x1b[1mGPUs\x1b[0m\n  evil\x1b[2J (pid 7)\n\udcff"
    assert printable_text(text) == "\x1b[1mGPUs\x1b[0m\n  evil\\x1b[2J (pid 7)\n\udcff"
