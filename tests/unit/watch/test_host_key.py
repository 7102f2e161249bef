"""The RSA host key that was made too late for the banner."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.model import run_files
from launcher.process.fork import fork
from launcher.watch import host_key
from testing.local_box import wait_until


def test_the_child_that_offers_it_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / run_files.BANNER).write_text("no key of that kind\n")
    public = tmp_path / "key.pub"
    public.write_text("ssh-rsa AAAA\n")
    pids: list[int] = []

    def noted(work) -> int:
        pids.append(fork(work))
        return pids[-1]

    monkeypatch.setattr(host_key, "UNDISTURBED", 0.0)
    monkeypatch.setattr(host_key, "fork", noted)
    late = host_key.LateHostKey(str(tmp_path), str(public))
    late.look(print)
    (pid,) = pids

    def is_gone() -> bool:
        late.look(print)
        return not Path(f"/proc/{pid}").exists()

    wait_until(is_gone, lambda: pid)
    late.look(print)
    assert pids == [pid], "once"
