"""What /etc/ld.so.preload names, and why the loader passes some of it by."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from launcher.detect.preload import read_preloads
from launcher.model.host import Preload
from tests.unit.detect.test_detect import tree

OURS = Path(sys.executable).read_bytes()[:64]
OF_32_BITS = OURS[:4] + b"\x01" + OURS[5:]
OF_ANOTHER = OURS[:18] + b"\xf3\x00" + OURS[20:]  # RISC-V


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (OURS, ""),
        (None, "is not there"),
        (b"", "is empty"),
        (b"#!/bin/sh\n", "is no library"),
        (OF_32_BITS, "is for another kind of machine"),
        (OF_ANOTHER, "is for another kind of machine"),
    ],
)
def test_a_library_that_cannot_be_loaded(tmp_path: Path, content: bytes | None, fault: str) -> None:
    root = tree(tmp_path, {"etc/ld.so.preload": "/opt/vgpu.so\n"})
    if content is not None:
        (root / "opt").mkdir()
        (root / "opt/vgpu.so").write_bytes(content)
    assert read_preloads(root) == (Preload("/opt/vgpu.so", fault),)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("# nothing\n", []),
        ("/a.so /b.so:/c.so # /d.so\n\n/a.so\n", ["/a.so", "/b.so", "/c.so"]),
        ("libfaketime.so /$LIB/x.so", ["libfaketime.so", "/$LIB/x.so"]),  # for the loader to find
        ("/a\0b\n", ["/a"]),
    ],
)
def test_the_names_are_read_as_the_loader_reads_them(
    tmp_path: Path, text: str, names: list[str]
) -> None:
    found = read_preloads(tree(tmp_path, {"etc/ld.so.preload": text}))
    assert [one.path for one in found] == names
    assert all(one.fault == "" for one in found if not one.path.startswith("/") or "$" in one.path)


def test_most_machines_have_no_such_file(tmp_path: Path) -> None:
    assert read_preloads(tmp_path) == ()
