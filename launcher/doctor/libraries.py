"""Every libcuda and libnvidia-ml that the dynamic loader could take, in its order: ld.so(8)."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from launcher.model.evidence import Library

CUDA = "libcuda.so.1"
NVML = "libnvidia-ml.so.1"
NAMES = (CUDA, "libcuda.so", NVML, "libnvidia-ml.so")

UNSEARCHED = "known directory"

# Where drivers and toolkits put these libraries without telling the loader.
_KNOWN = (
    "usr/local/nvidia/lib64", "usr/local/nvidia/lib", "usr/lib/wsl/lib", "usr/lib64/nvidia",
    "usr/lib/*/nvidia", "usr/lib/*/nvidia/current", "usr/lib/*/tegra",
    "usr/local/cuda*/compat", "usr/local/cuda*/lib64/stubs", "usr/local/cuda*/targets/*/lib/stubs",
)  # fmt: skip

_CACHE_MAGIC = b"glibc-ld.so.cache1.1"
_MOST_CACHE = 16 << 20  # bytes; that of a full desktop has one tenth of a megabyte


def find_libraries(environ: Mapping[str, str], root: Path = Path("/")) -> tuple[Library, ...]:
    """Return them in the loader's order, then those that it does not look for.

    `taken` is what that order gives; what a process really mapped says more (`take_mapped`).
    Variables name real paths; the system's own places are looked up under `root`.
    """
    found: dict[tuple[str, str], Library] = {}
    for path, source in _candidates(environ, root):
        library = _describe(path, source)
        if library:
            # /lib is a link to /usr/lib: one file, which counts where it is met first.
            place = os.path.realpath(path.parent)
            if source == "LD_PRELOAD":  # loaded already, under the name that it gives itself
                library = library._replace(name=CUDA if "libcuda" in path.name else NVML)
            found.setdefault((place, library.name), library)
    return tuple(_take_first(found.values()))


def take_mapped(libraries: Iterable[Library], name: str, mapped: str) -> tuple[Library, ...]:
    """Say that the loader took the file `mapped` for `name`, wherever it found it."""
    others = [one._replace(taken=one.taken and one.name != name) for one in libraries]
    for at, one in enumerate(others):
        if one.name == name and mapped in (one.target, one.path):
            return (*others[:at], one._replace(taken=True), *others[at + 1 :])
    path = Path(mapped)
    kind, version = _kind(path, path), _version(mapped)
    return (Library(name, mapped, "elsewhere", kind, version, mapped, taken=True), *others)


def best(libraries: Iterable[Library], kernel: str | None) -> Library | None:
    """Return the driver's own libcuda: of the kernel module's version, WSL's, or the first real."""
    real = [one for one in libraries if one.name == CUDA and one.kind in ("real", "wsl")]
    same = [one for one in real if kernel and one.version == kernel]
    wsl = [one for one in real if one.kind == "wsl"]
    return next(iter([*same, *wsl, *real]), None)


# --- where ---------------------------------------------------------------------------------------


def _candidates(environ: Mapping[str, str], root: Path) -> Iterator[tuple[Path, str]]:
    """Yield paths that may not exist, in the loader's order."""
    preloaded = re.split(r"[ :]+", environ.get("LD_PRELOAD", ""))
    for entry in preloaded:
        if entry.rpartition("/")[2].startswith(("libcuda.so", "libnvidia-ml.so")):
            yield Path(entry), "LD_PRELOAD"
    for entry in split_path(environ.get("LD_LIBRARY_PATH", "")):
        yield from _inside(Path(entry), "LD_LIBRARY_PATH")
    for name, target in _cached(root):
        if name in NAMES:
            yield root / target.lstrip("/"), "ld.so.cache"
    for folder in _default_directories():
        yield from _inside(root / folder, "default directory")
    for pattern in _KNOWN:
        for directory in sorted(root.glob(pattern)):
            yield from _inside(directory, UNSEARCHED)


def split_path(value: str) -> list[str]:
    """Return the directories of an LD_LIBRARY_PATH; an empty one, our own directory, is left out.

    Programs that a user starts have directories of their own, and neither is a place of libraries.
    """
    return [entry for entry in re.split("[:;]", value) if entry]


def _inside(directory: Path, source: str) -> Iterator[tuple[Path, str]]:
    for name in NAMES:
        yield directory / name, source
    for stem in ("libcuda.so", "libnvidia-ml.so"):
        # The link to it is missing: ldconfig makes one, and nothing loads the file without it.
        if not os.path.lexists(directory / f"{stem}.1"):
            for path in sorted(directory.glob(f"{stem}.[0-9]*.[0-9]*"))[:1]:
                yield path, source


def _default_directories() -> tuple[str, ...]:
    triplet = f"{os.uname().machine}-linux-gnu"  # Debian's; elsewhere it does not exist
    return (f"lib/{triplet}", f"usr/lib/{triplet}", "lib64", "usr/lib64", "lib", "usr/lib")


def _cached(root: Path) -> Iterator[tuple[str, str]]:
    """Yield names and paths of ld.so.cache, as glibc's sysdeps/generic/dl-cache.h lays it out.

    A header of 48 bytes with the count at 20; entries of 24 bytes, whose second and third words
    are where the name and the path begin.
    """
    try:
        with open(root / "etc/ld.so.cache", "rb") as stream:
            data = stream.read(_MOST_CACHE)
    except OSError:  # Alpine's loader has none
        return
    data = data[max(0, data.find(_CACHE_MAGIC)) :]  # an older format may come before
    if not data.startswith(_CACHE_MAGIC) or len(data) < 48:
        return
    (count,) = struct.unpack_from("=I", data, 20)
    for at in range(48, min(48 + 24 * count, len(data) - 23), 24):
        name, path = struct.unpack_from("=II", data, at + 4)
        yield _text_at(data, name), _text_at(data, path)


def _text_at(data: bytes, at: int) -> str:
    return data[at : data.find(b"\0", at)].decode(errors="replace")


# --- what ----------------------------------------------------------------------------------------


def _describe(path: Path, source: str) -> Library | None:
    """Return what a path is; None where there is nothing, or nothing for us."""
    if not os.path.lexists(path):
        return None
    target = Path(os.path.realpath(path))
    kind = _kind(path, target)
    if kind not in ("dangling", "empty") and _foreign(target):
        return None
    shown = _link(path) if kind == "dangling" else str(target)
    return Library(path.name, str(path), source, kind, _version(target.name), shown)


def _kind(path: Path, target: Path) -> str:
    try:
        size = target.stat().st_size
    except OSError:
        return "dangling"
    if size == 0:  # where something was mounted, and is not any more
        return "empty"
    parts = {*path.parts, *target.parts}
    return next((part.rstrip("s") for part in ("stubs", "compat", "wsl") if part in parts), "real")


def _version(name: str) -> str | None:
    """Return "550.54.15" of libcuda.so.550.54.15; the 1.1 of WSL's and Jetson's is none."""
    match = re.search(r"\.so\.(\d{2,}\.\d+(?:\.\d+)?)$", name)
    return match[1] if match else None


def _foreign(path: Path) -> bool:
    """Return whether this is a library of 32 bits where we have 64, which the loader skips."""
    try:
        with open(path, "rb") as stream:
            header = stream.read(5)
    except OSError:
        return False
    ours = 2 if sys.maxsize > 1 << 32 else 1  # EI_CLASS, elf(5)
    return header[:4] == b"\x7fELF" and header[4] != ours


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _take_first(libraries: Iterable[Library]) -> Iterator[Library]:
    """Mark the first of each name that the loader does not pass by; an empty file it does not."""
    taken = set()
    for one in libraries:
        usable = one.name in NAMES and one.source != UNSEARCHED and one.kind != "dangling"
        yield one._replace(taken=usable and one.name not in taken)
        if usable:
            taken.add(one.name)
