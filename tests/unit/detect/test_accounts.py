"""Who there is, from recorded trees: accounts, groups, what this process may do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.detect import accounts, detect
from launcher.model.host import Account, Host

PASSWD = """\
root:x:0:0:root:/root:/bin/bash
bob:x:1500:1500::/home/bob:
+::::::
half:x:12
dev:x:1000:1000::/home/dev:/bin/bash
"""
GROUP = "root:x:0:\nvideo:x:44:dev,bob\nbroken\ndev:x:1000:bob\n"
STATUS = "Name:\tpython\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t1\n"  # Docker's default set


def host(root: Path, files: dict[str, str], python: str = "") -> Host:
    for name, text in {"etc/passwd": PASSWD, "etc/group": GROUP, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return detect.read_host({}, "nobody", str(root), root, python)


def test_accounts_with_all_their_groups(tmp_path: Path) -> None:
    found = host(tmp_path, {})
    assert found.accounts == (
        Account("root", 0, 0, "/root", "/bin/bash", (0,)),
        Account("bob", 1500, 1500, "/home/bob", "/bin/sh", (1500, 44, 1000)),
        Account("dev", 1000, 1000, "/home/dev", "/bin/bash", (1000, 44)),
    )
    assert found.groups == (("root", 0), ("video", 44), ("dev", 1000))


def test_a_machine_without_these_files_has_nobody(tmp_path: Path) -> None:
    found = detect.read_host({}, "nobody", str(tmp_path), tmp_path)
    assert (found.accounts, found.groups, found.capabilities) == ((), (), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="of root alone it is asked")
def test_what_root_may_do_here(tmp_path: Path) -> None:
    found = host(tmp_path, {"proc/self/status": STATUS})
    assert found.no_new_privileges
    assert not found.lacks("SETUID", "SETGID", "CHOWN", "KILL", "SYS_CHROOT", "AUDIT_WRITE")
    none = STATUS.replace("a80425fb", "00000000")
    assert host(tmp_path, {"proc/self/status": none}).lacks("SETUID", "KILL") == ("SETUID", "KILL")


@pytest.mark.parametrize(
    ("uid_map", "rootless"),
    [("0 0 4294967295\n", False), ("0 1000 1\n1 100000 65536\n", True), ("", False)],
)
def test_whether_root_is_somebody_else_outside(tmp_path: Path, uid_map: str, rootless) -> None:
    assert host(tmp_path, {"proc/self/uid_map": uid_map}).rootless is rootless


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone may write them")
def test_names_that_are_mounted_cannot_be_replaced(tmp_path: Path) -> None:
    assert host(tmp_path, {}).names_writable
    line = "590 585 0:54 /pw /etc/passwd rw,relatime - overlay overlay rw\n"
    assert not host(tmp_path, {"proc/self/mountinfo": line}).names_writable


def test_the_library_that_gives_names(tmp_path: Path) -> None:
    assert host(tmp_path, {}).nss_wrapper is None
    path = "usr/lib/x86_64-linux-gnu/libnss_wrapper.so"
    assert host(tmp_path, {path: ""}).nss_wrapper == f"/{path}"


def test_the_group_of_the_user_environment(tmp_path: Path) -> None:
    prefix = tmp_path / "venv"
    (prefix / "bin").mkdir(parents=True)
    prefix.chmod(0o775)
    if os.geteuid() == 0:
        os.chown(prefix, 0, 4321)
    python = str(prefix / "bin/python")
    assert host(tmp_path, {}, python).python_gid is None  # not the image: none of our business
    image = {"etc/launcher/supervisord.conf": ""}
    assert host(tmp_path, image, python).python_gid == prefix.stat().st_gid
    prefix.chmod(0o755)
    assert host(tmp_path, image, python).python_gid is None


@pytest.mark.parametrize(("home", "expected"), [("/", None), ("", None), ("HERE", "HERE")])
def test_a_home_for_a_uid_without_a_name(tmp_path: Path, home: str, expected) -> None:
    home, expected = (value and value.replace("HERE", str(tmp_path)) for value in (home, expected))
    found = detect.read_host({"HOME": home}, "nobody", "/", tmp_path)
    dev = accounts.account_named("dev")
    assert found.user_home == (expected or (dev.home if dev and os.path.isdir(dev.home) else None))


def test_a_home_that_is_asked_for_need_not_be_there_yet(tmp_path: Path) -> None:
    """`docker run --user 1234 -v VOLUME:/workspace -e HOME=/workspace/home`: it is made."""
    wanted = str(tmp_path / "deep" / "home")
    assert accounts.writable_home({"HOME": wanted}) == wanted


@pytest.mark.parametrize("home", ["relative/home", "FILE", "FILE/home"])
def test_a_home_that_cannot_be_made_is_none(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("")
    wanted = home.replace("FILE", str(tmp_path / "file"))
    assert accounts.writable_home({"HOME": wanted}) != wanted


# --- whose the device nodes are ---------------------------------------------------------------


def node(root: Path, name: str, gid: int, mode: int) -> None:
    path = root / "dev" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    os.chown(path, 0, gid)
    path.chmod(mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize(
    ("nodes", "gids"),
    [
        ({"nvidiactl": (44, 0o660), "nvidia0": (44, 0o660), "nvidia-uvm": (44, 0o660)}, (44,)),
        ({"nvmap": (44, 0o660), "nvhost-ctrl-gpu": (44, 0o660), "nvgpu/igpu0/as": (105, 0o660)},
         (44, 105)),
        ({"nvidiactl": (44, 0o666)}, ()),  # everybody may
        ({"nvidiactl": (44, 0o600)}, ()),  # no group may
        ({"nvidiactl": (44, 0o640)}, ()),  # that is not enough
        ({"nvidiactl": (0, 0o660)}, ()),  # root's own group is nobody's to join
        ({"sda": (6, 0o660), "nvidia-modeset": (44, 0o660)}, ()),  # nothing computes by these
        ({}, ()),
    ],
)  # fmt: skip
def test_the_groups_that_alone_may_open_the_nodes(tmp_path: Path, nodes: dict, gids: tuple) -> None:
    for name, (gid, mode) in nodes.items():
        node(tmp_path, name, gid, mode)
    image = {"etc/launcher/supervisord.conf": ""}
    assert host(tmp_path, image).device_groups == gids


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_plain_machines_accounts_are_left_alone(tmp_path: Path) -> None:
    node(tmp_path, "nvidiactl", 44, 0o660)
    assert host(tmp_path, {}).device_groups == ()
