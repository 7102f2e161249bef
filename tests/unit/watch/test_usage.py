"""Who is in a box, and how much room it has."""

from __future__ import annotations

import os
import time
from pathlib import Path

from launcher.watch import usage


def test_room_of_what_there_is(tmp_path: Path) -> None:
    path = str(tmp_path)
    told, found = os.statvfs(path), usage.room((path, "/nonexistent"))
    assert list(found) == [path]
    assert found[path]["size"] == told.f_blocks * told.f_frsize
    assert 0 < found[path]["free"] <= found[path]["size"]


def test_a_file_system_that_hangs_hides_no_other(tmp_path: Path, monkeypatch) -> None:
    statvfs = os.statvfs

    def hang(path: str) -> os.statvfs_result:
        while path == "/stuck":
            time.sleep(60)
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", hang)
    path = str(tmp_path)
    assert list(usage.room((path, "/stuck"), patience=1.0)) == [path]
