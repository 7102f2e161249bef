"""An environment above another one: seen by its Python, pip and uv, kept over a changed image."""

from __future__ import annotations

import getpass
import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.box import packages
from launcher.model.host import Account

VERSION = f"python3.{sys.version_info.minor}"
UV = Path(sys.executable).parent / "uv"


def me() -> Account:
    entry = pwd.getpwnam(getpass.getuser())
    return Account(entry.pw_name, os.geteuid(), os.getegid(), entry.pw_dir, entry.pw_shell)


def describe(folder: Path, name: str, version: str, installer: str = "pip") -> Path:
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "INSTALLER").write_text(f"{installer}\n")
    (info / "RECORD").write_text("")
    return info


class Image:
    """An image's environment, with a PyTorch that is none, and the packages that grow on it."""

    def __init__(self, folder: Path) -> None:
        self.prefix = folder / "a venv's place"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", self.prefix], check=True
        )  # fmt: skip
        self.packages = self.prefix / "lib" / VERSION / "site-packages"
        (self.packages / "torch.py").write_text("")
        self.torch = describe(self.packages, "torch", "2.6.0")
        shebang = f"#!{self.prefix}/bin/python"
        (self.prefix / "bin/torchrun").write_text(f"{shebang}\nimport sys; print(sys.prefix)\n")
        (self.prefix / "pip.conf").write_text("[install]\nconstraint = /nowhere\n")
        self.overlay = folder / "my ws" / ".packages" / VERSION
        self.own = self.overlay / "lib" / VERSION / "site-packages"

    def provide(self) -> packages.Provided:
        return packages.provide(str(self.overlay), str(self.prefix / "bin/python"), me())

    def run(self, *command: str) -> str:
        environ = {"PATH": f"{self.overlay}/bin:/usr/bin:/bin", "HOME": str(self.overlay)}
        done = subprocess.run(
            command, env=environ, cwd=self.overlay, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr


@pytest.fixture
def image(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_its_python_sees_both_and_its_own_first(image: Image) -> None:
    assert image.provide() == packages.Provided(None)
    python = f"{image.overlay}/bin/python"
    assert image.run(python, "-c", "import torch; print(torch.__file__)").startswith(
        f"{image.packages}/"
    )
    (image.own / "torch.py").write_text("")
    assert image.run(python, "-c", "import torch; print(torch.__file__)").startswith(
        f"{image.own}/"
    )
    assert (image.overlay / "pip.conf").read_text() == (image.prefix / "pip.conf").read_text()


def test_uv_knows_what_the_image_has(image: Image) -> None:
    image.provide()
    listed = image.run(str(UV), "pip", "list", "--format", "json", "--no-cache")
    assert '{"name":"torch","version":"2.6.0"}' in listed


def test_commands_of_the_image_run_in_it_and_others_stay(image: Image) -> None:
    mine = image.overlay / "bin" / "mine"
    image.provide()
    mine.write_text("#!/bin/sh\n")
    command = image.overlay / "bin" / "torchrun"
    assert image.run(str(command)) == f"{image.overlay}\n"
    (image.prefix / "bin/torchrun").unlink()
    image.provide()
    assert not command.exists()
    assert mine.exists()


def test_a_second_start_writes_nothing_and_says_nothing(image: Image) -> None:
    image.provide()

    def times() -> dict[Path, int]:
        paths = [path for path in image.overlay.rglob("*") if path.name != "image.json"]
        return {path: path.lstat().st_mtime_ns for path in paths if path.is_file()}

    before = times()
    assert image.provide() == packages.Provided(None)
    assert times() == before


def test_another_pytorch_of_the_image_is_said_where_something_was_installed(image: Image) -> None:
    image.provide()
    describe(image.own, "flash_attn", "2.7")
    image.torch.rename(image.packages / "torch-2.14.1.dist-info")
    (remark,) = image.provide().remarks
    assert remark.startswith("PyTorch is 2.14.1 now, the packages in ")
    assert "beside 2.6.0" in remark
    described = {path.name for path in image.own.glob("torch-*")}
    assert described == {"torch-2.14.1.dist-info"}
    assert (image.own / "flash_attn-2.7.dist-info").exists()
    assert image.provide().remarks == ()


def test_what_the_user_installed_over_the_images_is_left_alone(image: Image) -> None:
    image.provide()
    for path in (image.own / "torch-2.6.0.dist-info").iterdir():
        path.unlink()
    (image.own / "torch-2.6.0.dist-info").rmdir()
    describe(image.own, "Torch", "2.9.1")
    image.torch.rename(image.packages / "torch-2.14.1.dist-info")
    image.provide()
    assert [path.name for path in image.own.glob("[tT]orch-*")] == ["Torch-2.9.1.dist-info"]


def test_another_python_is_said_once_with_what_to_install(image: Image) -> None:
    old = image.overlay.parent / "python3.9" / "lib" / "python3.9" / "site-packages"
    describe(old, "flash_attn", "2.7")
    describe(old, "torch", "2.0.0", packages.INSTALLER)
    (remark,) = image.provide().remarks
    wanted = image.overlay / "from-python3.9.txt"
    assert f"pip install -r {wanted}" in remark
    assert wanted.read_text() == "flash_attn==2.7\n"
    assert image.provide().remarks == ()


def test_a_folder_that_cannot_be_written_is_a_reason(image: Image) -> None:
    image.overlay.parent.parent.mkdir()
    image.overlay.parent.write_text("a file")
    fault = image.provide().fault
    assert fault
    assert str(image.overlay.parent) in fault


@pytest.mark.parametrize("text", ["", "{", "[]", '{"torch": 5}', '"x"'])
def test_a_damaged_stamp_is_none(image: Image, text: str) -> None:
    image.provide()
    (image.overlay / "image.json").write_text(text)
    assert image.provide().fault is None
    assert json.loads((image.overlay / "image.json").read_text())["torch"] == "2.6.0"
