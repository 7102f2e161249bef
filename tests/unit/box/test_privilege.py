"""Who may not is told how to become who may, where that can be."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace

import pytest

from launcher.box import privilege

SUDO = "only root may; try: sudo launcher url"
ENTER = "only root may, and uid 1000 has no sudo here: come in as root (docker exec -u root …)"
OTHER = "only who runs this box may; the box here is of uid 7: come in as it "


@pytest.mark.parametrize(
    ("image", "sudo", "owner", "message"),
    [
        (True, 0, 0, SUDO),
        (True, 1, 0, ENTER),
        (True, None, 0, ENTER),  # no sudo in the image
        (True, 1, 7, f"{OTHER}(docker exec -u 7 …)"),
        (False, 1, 0, SUDO),  # it may ask for a password
    ],
)
def test_it_is_sudo_where_sudo_works(
    monkeypatch: pytest.MonkeyPatch, image: bool, sudo: int | None, owner: int, message: str
) -> None:
    def asked(argv: list[str], **_: object) -> object:
        assert argv == ["sudo", "-n", "true"]
        if sudo is None:
            raise FileNotFoundError
        return SimpleNamespace(returncode=sudo)

    monkeypatch.setattr(subprocess, "run", asked)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_uid=owner))
    monkeypatch.setattr(os.path, "exists", lambda path: image)
    assert str(privilege.only_root("url")) == message


@pytest.mark.parametrize(
    ("uid", "owner", "said"),
    [(0, 7, True), (7, 7, False), (0, 0, False), (8, 7, True), (8, 0, False)],
)
def test_who_runs_the_container_is_named_to_others(
    monkeypatch: pytest.MonkeyPatch, uid: int, owner: int, said: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "stat", lambda path: SimpleNamespace(st_uid=owner))
    monkeypatch.setattr(os.path, "exists", lambda path: True)
    assert privilege.of_another() == (
        "; the box here is of uid 7: come in as it (docker exec -u 7 …)" if said else ""
    )
