"""Which libcuda the loader takes: folders made here, and the system's own ldconfig and loader."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.doctor.libraries import CUDA, NVML, best, find_libraries, take_mapped
from launcher.model.evidence import Library
from sim import driver

DEFAULT = f"usr/lib/{os.uname().machine}-linux-gnu"
ELF = b"\x7fELF" + bytes([2 if sys.maxsize > 1 << 32 else 1])
OTHER_ELF = b"\x7fELF" + bytes([1 if sys.maxsize > 1 << 32 else 2])


def install(folder: Path, name: str = "libcuda.so", version: str = "550.54.15") -> Path:
    """Lay a library out as a driver package does; return the link that programs load."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.{version}").write_bytes(ELF)
    (folder / f"{name}.1").symlink_to(f"{name}.{version}")
    return folder / f"{name}.1"


def of(libraries: tuple[Library, ...], name: str = CUDA) -> list[Library]:
    return [library for library in libraries if library.name == name]


def test_a_drivers_library_has_the_version_of_the_file_behind_its_link(tmp_path: Path) -> None:
    link = install(tmp_path / DEFAULT)
    assert find_libraries({}, tmp_path) == (
        Library(
            CUDA, str(link), "default directory", "real", "550.54.15",
            os.path.realpath(link), taken=True,
        ),
    )  # fmt: skip


def test_the_loaders_order(tmp_path: Path) -> None:
    default = install(tmp_path / DEFAULT)
    first, second = install(tmp_path / "first", version="1.2"), install(tmp_path / "second")
    preloaded = install(tmp_path / "preloaded")
    unsearched = install(tmp_path / "usr/local/nvidia/lib64")
    environ = {
        "LD_LIBRARY_PATH": f"{first.parent}:/nonexistent::{second.parent}",
        "LD_PRELOAD": f"libm.so.6 {preloaded}",
    }
    found = of(find_libraries(environ, tmp_path))
    assert [(one.path, one.source) for one in found] == [
        (str(preloaded), "LD_PRELOAD"),
        (str(first), "LD_LIBRARY_PATH"),
        (str(second), "LD_LIBRARY_PATH"),
        (str(default), "default directory"),
        (str(unsearched), "known directory"),
    ]
    assert [one.taken for one in found] == [True, False, False, False, False]
    assert found[1].version is None  # "1.2" is no driver's version


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("usr/local/cuda-12.4/compat", "compat"),
        ("usr/local/cuda-12.4/lib64/stubs", "stub"),
        ("usr/local/cuda/targets/x86_64-linux/lib/stubs", "stub"),
        ("usr/lib/wsl/lib", "wsl"),
        ("usr/local/nvidia/lib64", "real"),
    ],
)
def test_what_is_not_searched_is_listed_by_its_kind_and_never_taken(tmp_path, folder, kind) -> None:
    install(tmp_path / folder)
    (only,) = find_libraries({}, tmp_path)
    assert (only.kind, only.source, only.taken) == (kind, "known directory", False)


def test_a_link_to_a_stub_is_a_stub(tmp_path: Path) -> None:
    (tmp_path / "cuda/stubs").mkdir(parents=True)
    (tmp_path / "cuda/stubs/libcuda.so").write_bytes(ELF)
    (tmp_path / DEFAULT).mkdir(parents=True)
    (tmp_path / DEFAULT / CUDA).symlink_to(tmp_path / "cuda/stubs/libcuda.so")
    (only,) = find_libraries({}, tmp_path)
    assert (only.kind, only.taken) == ("stub", True)


def test_the_loader_passes_by_a_dangling_link_but_stops_at_an_empty_file(tmp_path: Path) -> None:
    for name in ("dangling", "empty"):
        (tmp_path / name).mkdir()
    (tmp_path / "dangling" / CUDA).symlink_to("libcuda.so.535.1.2")
    (tmp_path / "empty" / CUDA).touch()
    install(tmp_path / DEFAULT)
    environ = {"LD_LIBRARY_PATH": f"{tmp_path}/dangling:{tmp_path}/empty"}
    found = of(find_libraries(environ, tmp_path))
    assert [(one.kind, one.taken) for one in found] == [
        ("dangling", False), ("empty", True), ("real", False),
    ]  # fmt: skip
    assert found[0].target == "libcuda.so.535.1.2"


def test_a_library_of_another_word_size_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / CUDA).write_bytes(OTHER_ELF)
    link = install(tmp_path / DEFAULT)
    (only,) = of(find_libraries({}, tmp_path))
    assert only.path == str(link)


def test_a_folder_with_two_names_counts_where_it_is_met_first(tmp_path: Path) -> None:
    link = install(tmp_path / "usr/lib")
    (tmp_path / "lib").symlink_to("usr/lib")
    environ = {"LD_LIBRARY_PATH": str(link.parent)}
    assert [one.path for one in find_libraries(environ, tmp_path)] == [str(link)]


def test_a_file_without_its_link_is_listed_and_not_taken(tmp_path: Path) -> None:
    install(tmp_path / DEFAULT).unlink()
    (only,) = find_libraries({}, tmp_path)
    assert (only.name, only.version, only.taken) == ("libcuda.so.550.54.15", "550.54.15", False)


# --- ld.so.cache -------------------------------------------------------------------------------


@pytest.fixture
def ldconfig() -> Callable[[Path], None]:
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if program is None:
        pytest.skip("there is no ldconfig")
    return lambda root: subprocess.run([program, "-r", root], check=True) and None


def test_the_cache_names_folders_of_the_systems_configuration(tmp_path, ldconfig) -> None:
    driver.build(driver.CACHE)
    folder = tmp_path / "opt/driver"
    folder.mkdir(parents=True)
    for name in (CUDA, NVML):
        shutil.copy(driver.CACHE / name, folder / name)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.conf").write_text("/opt/driver\n")
    ldconfig(tmp_path)
    found = find_libraries({}, tmp_path)
    assert {(one.name, one.path, one.source, one.taken) for one in found} == {
        (name, str(folder / name), "ld.so.cache", True) for name in (CUDA, NVML)
    }


@pytest.mark.parametrize("keep", [0, 10, 22, 47, 60, 200])
def test_a_broken_cache_is_no_cache(tmp_path: Path, keep: int) -> None:
    cache = Path("/etc/ld.so.cache")
    if not cache.exists():
        pytest.skip("this system has no cache to break")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/ld.so.cache").write_bytes(cache.read_bytes()[:keep])
    assert find_libraries({}, tmp_path) == ()


# --- what was mapped, and what is best -----------------------------------------------------------


def test_what_a_process_mapped_is_what_was_taken(tmp_path: Path) -> None:
    environ = {"LD_LIBRARY_PATH": str(install(tmp_path / "first").parent)}
    default = install(tmp_path / DEFAULT)
    install(tmp_path / "first", "libnvidia-ml.so")
    seen = take_mapped(find_libraries(environ, tmp_path), CUDA, os.path.realpath(default))
    assert [one.path for one in of(seen) if one.taken] == [str(default)]
    assert [one.taken for one in of(seen, NVML)] == [True]  # it is another library


def test_a_library_from_nowhere_that_we_know_is_added(tmp_path: Path) -> None:
    install(tmp_path / DEFAULT)
    added, *_ = seen = take_mapped(find_libraries({}, tmp_path), CUDA, "/opt/x/libcuda.so.535.54.1")
    assert (added.version, added.source, added.taken) == ("535.54.1", "elsewhere", True)
    assert sum(one.taken for one in seen) == 1


@pytest.mark.parametrize(
    ("kernel", "folder"), [("550.54.15", "same"), ("535.1.2", "newer"), (None, "newer")]
)
def test_the_best_library_is_the_kernel_modules(tmp_path, kernel, folder) -> None:
    install(tmp_path / "usr/local/cuda/compat", version="570.1.2")
    folders = [install(tmp_path / "newer", version="565.57.01"), install(tmp_path / "same")]
    environ = {"LD_LIBRARY_PATH": ":".join(str(link.parent) for link in folders)}
    found = best(find_libraries(environ, tmp_path), kernel)
    assert found is not None
    assert Path(found.path).parent.name == folder


def test_there_is_no_best_among_stubs(tmp_path: Path) -> None:
    install(tmp_path / "usr/local/cuda/lib64/stubs")
    assert best(find_libraries({}, tmp_path), "550.54.15") is None
