"""A script with the line ends of Windows runs without them, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.process.script import unix_copy


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        (b"#!/usr/bin/env bash\r\necho\r\n", b"#!/usr/bin/env bash\necho\n"),
        (b"if x; then\r\n\ty\r\nfi", b"if x; then\n\ty\nfi"),
        (b"\r\na\rb\r\n", b"\na\rb\n"),
        (b"\xef\xbb\xbf#!/bin/sh\r\n\xef\xbb\xbf\r\n", b"#!/bin/sh\n\xef\xbb\xbf\n"),
        (b"#!/bin/sh\necho '\r'\r\n", None),
        (b"\x7fELF\r\n\0", None),
        (b"", None),
    ],
)
def test_what_is_read_in_its_place(tmp_path: Path, text: bytes, becomes: bytes | None) -> None:
    (tmp_path / "script").write_bytes(text)
    copy = unix_copy(str(tmp_path / "script"))
    assert (copy and os.pread(copy.fd, 99, 0)) == becomes


def test_its_interpreter_is_that_of_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(b"#! /usr/bin/env -S python3 -u \r\n")
    copy = unix_copy(str(tmp_path / "script"))
    assert copy
    assert copy.interpreter() == ["/usr/bin/env", "-S python3 -u"]
    (tmp_path / "script").write_bytes(b"export A=1\r\n")
    copy = unix_copy(str(tmp_path / "script"))
    assert copy
    assert copy.interpreter() == []
    assert unix_copy(str(tmp_path / "none")) is None
