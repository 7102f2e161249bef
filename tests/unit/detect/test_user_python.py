"""What an interpreter's files tell of its packages, without starting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.detect import user_python
from launcher.detect.user_python import Versions

TORCH = "__version__ = '2.6.0a0+nv25.01'\ncuda: Optional[str] = '12.8'\n"


def environment(folder: Path, base: Path, sees_it: str) -> str:
    """Make an environment on top of a Python; return its interpreter."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text(
        f"home = {base}/bin\ninclude-system-site-packages = {sees_it}\nversion = 3.12.3\n"
    )
    return str(folder / "bin/python")


def put_torch(packages: Path, text: str = TORCH) -> None:
    (packages / "torch").mkdir(parents=True)
    (packages / "torch/version.py").write_text(text)
    (packages / "nvidia_nccl_cu12-2.25.1.dist-info").mkdir()


@pytest.mark.parametrize(
    "place",
    ["lib/python3.12/site-packages", "lib/python3/dist-packages",
     "local/lib/python3.12/dist-packages"],
)  # fmt: skip
def test_the_packages_of_the_python_below_count_where_they_are_seen(
    tmp_path: Path, place: str
) -> None:
    """As in NVIDIA's own images, where PyTorch is Ubuntu's Python's, below /usr/local."""
    base = tmp_path / "usr"
    put_torch(base / place)
    python = environment(tmp_path / "venv", base, "true")
    assert user_python.read_versions(python) == Versions("3.12.3", "2.6.0a0+nv25.01", "12.8")
    assert user_python.nccl_version(python) == "2.25.1"
    assert user_python.has(python, "torch/version.py")
    alone = environment(tmp_path / "alone", base, "false")
    assert user_python.read_versions(alone) == Versions("3.12.3", None, None)
    assert user_python.nccl_version(alone) is None


def test_an_environment_s_own_package_comes_first(tmp_path: Path) -> None:
    base = tmp_path / "usr"
    put_torch(base / "lib/python3.12/site-packages")
    python = environment(tmp_path / "venv", base, "True")
    put_torch(tmp_path / "venv/lib/python3.12/site-packages", "__version__ = '2.7.1'\n")
    assert user_python.read_versions(python).pytorch == "2.7.1"


def test_without_pyvenv_cfg_its_own_folders_are_all(tmp_path: Path) -> None:
    put_torch(tmp_path / "lib/python3.11/site-packages")
    found = user_python.read_versions(str(tmp_path / "bin/python"))
    assert found == Versions("3.11", "2.6.0a0+nv25.01", "12.8")


@pytest.mark.parametrize("sees_it", [None, "true"])
def test_below_usr_local_is_first_as_debian_s_python_looks(
    tmp_path: Path, sees_it: str | None
) -> None:
    """Named itself, or seen by an environment: NVIDIA's PyTorch is there, and not Ubuntu's."""
    base = tmp_path / "usr"
    put_torch(base / "lib/python3/dist-packages", "__version__ = '2.6.0+debian'\n")
    put_torch(base / "local/lib/python3.12/dist-packages")
    python = str(base / "bin/python3")
    if sees_it:
        python = environment(tmp_path / "venv", base, sees_it)
    assert user_python.read_versions(python).pytorch == "2.6.0a0+nv25.01"
