"""The locks name what is asked for, each file by its hash.  They are made by `make lock`."""

from __future__ import annotations

import re

import pytest

from tools import lock
from tools.image import default_torch
from tools.variants import NEWEST

ROOT = lock.PROJECT
LOCKS = {path.stem: path.read_text() for path in lock.FOLDER.glob("*/*.txt")}
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}\b")


def pinned(text: str) -> dict[str, str]:
    return dict(re.findall(r"^\s*\"?([\w.-]+)==([^\s\",]+)", text, re.MULTILINE))


def test_there_is_a_lock_of_everything_that_is_installed() -> None:
    assert {one.path for one in lock.locks()} == set(lock.FOLDER.glob("*/*.txt"))


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_a_version_and_hashes(name: str) -> None:
    entries = [e for e in re.split(r"^(?=[a-z0-9])", LOCKS[name], flags=re.MULTILINE) if e.strip()]
    assert len(entries) >= 1
    assert [entry for entry in entries if not lock.PINNED.match(entry)] == []
    assert [entry for entry in entries if not HASH.search(entry)] == []


# The launcher's own: the wheel takes ranges, the tests run with what the image has.
PYPROJECT = pinned((ROOT / "pyproject.toml").read_text())
DEPENDENCIES = ("nvidia-ml-py", "supervisor", "paramiko", "cryptography")


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("notebook", pinned((ROOT / "image/requirements.txt").read_text())),
        ("2.6.0", pinned(default_torch().replace(" ", "\n"))),
        ("2.14.1", pinned(NEWEST.replace(" ", "\n"))),
        ("launcher", {name: PYPROJECT[name] for name in DEPENDENCIES}),
    ],
)
def test_what_is_asked_for_is_locked_in_that_version(name: str, asked: dict[str, str]) -> None:
    """Else a pin was moved without `make lock`: the image would still have the old one."""
    assert len(asked) >= 3
    locked = lock.versions(LOCKS[name])
    wanted = {re.sub(r"[-_.]+", "-", package): version for package, version in asked.items()}
    assert {package: locked.get(package) for package in wanted} == wanted


@pytest.mark.parametrize("name", ["2.6.0", "2.14.1"])
def test_both_parts_of_an_environment_agree(name: str) -> None:
    """PyTorch's lock is installed first, and the notebook set replaces nothing of it."""
    torch, notebook = lock.versions(LOCKS[name]), lock.versions(LOCKS["notebook"])
    shared = torch.keys() & notebook.keys()
    assert {"numpy", "pillow", "jinja2"} <= shared
    assert {name: torch[name] for name in shared} == {name: notebook[name] for name in shared}


def test_what_moved_is_said() -> None:
    before = "a==1 \\\n    --hash=sha256:0\nb==2 ; python_version < '3.11'\nb==3\n"
    assert lock.versions(before) == {"a": "1", "b": "2, 3"}
    assert lock.difference({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "1"}) == [
        "b 2 -> 3",
        "c new -> 1",
    ]
