"""What is installed in the user's Python, told by its files: importing PyTorch takes seconds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from launcher.model.named_tuple import NamedTuple
from launcher.paths.folder import read_text

# Where packages are, below an interpreter's prefix; the last two are Debian's.
_PACKAGES = (
    "lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages",
)  # fmt: skip
_ASSIGNED = r"(?m)^(\w+)(\s*:[^=\n]*)?\s*=\s*['\"]([^'\"\n]+)['\"]"


class Versions(NamedTuple):
    """None = it is not there, or does not say."""

    python: str | None
    pytorch: str | None
    cuda: str | None  # that PyTorch was built for


def read_versions(python: str) -> Versions:
    """Return the versions of an interpreter and of its PyTorch."""
    prefix = Path(python).parent.parent
    found = _assigned(next(package_files(prefix, "torch/version.py"), None))
    return Versions(_python(prefix), found.get("__version__"), found.get("cuda"))


def package_files(prefix: Path, name: str) -> Iterator[Path]:
    """Yield a file of a package in each place where an interpreter looks, its own first."""
    for place in _prefixes(prefix):
        for pattern in _PACKAGES:
            yield from sorted(place.glob(f"{pattern}/{name}"))


def _prefixes(prefix: Path) -> Iterator[Path]:
    """Yield an environment's prefix, and those of the Python below it where it sees its packages.

    docs.python.org/3/library/site.html: pyvenv.cfg.  Debian's Python, which NVIDIA's images have,
    looks below /usr/local before it looks below /usr.
    """
    told = _environment(prefix)
    base: Path | None = prefix
    if told:
        yield prefix
        sees = told.get("include-system-site-packages", "").lower() == "true" and "home" in told
        base = Path(told["home"]).parent if sees else None
    if base is not None:
        yield from (base / "local", base)


def minor_version(python: str) -> str:
    """Return "3.11", as folders of packages are called; "" where it does not show."""
    found = re.match(r"3\.\d+", _python(Path(python).parent.parent) or "")
    return found[0] if found else ""


def has(python: str, name: str) -> bool:
    """Return whether a file of a package is in the environment of an interpreter."""
    return any(package_files(Path(python).parent.parent, name))


def _python(prefix: Path) -> str | None:
    """Return what pyvenv.cfg says, else what the library's folder is called."""
    told = _environment(prefix)
    for name in ("version", "version_info"):
        if name in told:
            return told[name]
    found = sorted(prefix.glob("lib/python3.*"))
    return found[-1].name.removeprefix("python") if found else None


def _environment(prefix: Path) -> dict[str, str]:
    """Return what pyvenv.cfg says; nothing where there is none."""
    with contextlib.suppress(OSError):
        lines = read_text(str(prefix / "pyvenv.cfg")).splitlines()
        pairs = (line.partition("=") for line in lines)
        return {name.strip(): value.strip() for name, _, value in pairs}
    return {}


def _assigned(path: Path | None) -> dict[str, str]:
    """Return the strings that PyTorch's version.py assigns."""
    if path is None:
        return {}
    try:
        text = read_text(str(path))
    except OSError:
        return {}
    return {name: value for name, _, value in re.findall(_ASSIGNED, text)}


def constraints(python: str) -> dict[str, str]:
    """Return the versions that image/build/constrain-torch holds pip to: the image's own."""
    try:
        text = read_text(str(Path(python).parent.parent / "torch-constraints.txt"))
    except OSError:
        return {}
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def nccl_version(python: str) -> str | None:
    """Return the version of pip's NCCL, of whichever CUDA; a wheel's own may be another."""
    for path in package_files(Path(python).parent.parent, "nvidia_nccl_cu*.dist-info"):
        found = re.fullmatch(r"nvidia_nccl_cu\d+-([\w.]+)\.dist-info", path.name)
        if found:
            return found[1]
    return None
