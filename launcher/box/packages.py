"""The user's packages on the workspace: an environment above the image's, kept with the volume.

It is a virtual environment whose `.pth` file adds the image's packages behind its own
(site.addsitedir), since an environment that is made from another one's Python sees neither of them.
pip looks along sys.path; uv looks into the environment alone.  So it holds the description of each
of the image's packages, too, without its files: both know what is there, install beside it, and
download PyTorch no second time.  The image's commands are there once more, for this Python.

Nothing of it is root's: it is written by the user's own uid, in a child.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator

from launcher.model.host import Account
from launcher.model.named_tuple import NamedTuple
from launcher.process.fork import fork_to_answer, write_all

INSTALLER = "pytorch-cuda-launcher"  # of the descriptions that are ours: dist-info/INSTALLER
_STAMP = "image.json"  # what of the image was put there
_MARK = "# the image's, for this environment"  # second line of a command that is ours
_DESCRIBES = ("METADATA", "WHEEL", "entry_points.txt")
_DIST = r"(?P<name>.+?)-(?P<version>[^-]+)\.dist-info"


class Provided(NamedTuple):
    """What became of the environment."""

    fault: str | None  # why there is none
    remarks: tuple[str, ...] = ()  # what the user should know of a changed image


class _Image(NamedTuple):
    """The environment below."""

    prefix: str
    python: str  # the interpreter behind its links
    folders: tuple[str, ...]  # where its packages are
    configuration: dict[str, str]  # of its pyvenv.cfg


def provide(folder: str, python: str, account: Account) -> Provided:
    """Make the environment, or mend it; as the user.

    Args:
        folder: of the environment; its name ends with the Python's version, "…/python3.11".
        python: the image's interpreter.
    """
    if account.uid == os.geteuid():
        return _provide(folder, python)
    pid, reader = fork_to_answer(lambda writer: _as_the_user(folder, python, account, writer))
    with open(reader, encoding="utf-8", errors="replace") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    try:
        fault, remarks = json.loads(said)
    except ValueError:
        return Provided("the child that makes it ended")
    return Provided(fault, tuple(remarks))


def _as_the_user(folder: str, python: str, account: Account, writer: int) -> int:
    try:
        os.setgroups(account.groups)
        os.setgid(account.gid)
        os.setuid(account.uid)
        made = _provide(folder, python)
    except OSError as err:
        made = Provided(str(err))
    write_all(writer, json.dumps([made.fault, made.remarks]).encode())
    return 0


def _provide(folder: str, python: str) -> Provided:
    try:
        os.umask(0o022)
        os.makedirs(_packages(folder), exist_ok=True)
        os.makedirs(f"{folder}/bin", exist_ok=True)
        if os.statvfs(folder).f_flag & os.ST_NOEXEC:
            return Provided(f"no program may run on {folder} (noexec)")
        image = _read_image(python)
        before, now = _stamp(folder), _describe(image)
        if before != now:
            _write_interpreter(folder, image)
            _write_commands(folder, image)
            _drop_descriptions(folder, image)
        _write_descriptions(folder, image)
        remarks = tuple(_remarks(folder, before, now))
        _write(f"{folder}/{_STAMP}", json.dumps(now))
    except OSError as err:
        return Provided(f"{err.filename or folder}: {err.strerror}")
    return Provided(None, remarks)


def _packages(folder: str) -> str:
    return f"{folder}/lib/{os.path.basename(folder)}/site-packages"


# --- the image's environment ------------------------------------------------------------------


def _read_image(python: str) -> _Image:
    prefix = os.path.dirname(os.path.dirname(python))
    configuration: dict[str, str] = {}
    with contextlib.suppress(OSError), open(f"{prefix}/pyvenv.cfg", encoding="utf-8") as stream:
        for line in stream:
            name, _, value = line.partition("=")
            configuration[name.strip()] = value.strip()
    library = f"{prefix}/lib"
    found = [f"{library}/{name}" for name in _names(library) if name.startswith("python3")]
    places = [f"{one}/{kind}" for one in found for kind in ("site-packages", "dist-packages")]
    return _Image(
        prefix, os.path.realpath(python), tuple(filter(os.path.isdir, places)), configuration
    )


def _describe(image: _Image) -> dict[str, object]:
    """Return what the environment was made for: with another image it is made anew."""
    listed = sorted(name for _, name in _distributions(image))
    torch = next((re.fullmatch(_DIST, name) for name in listed if name.startswith("torch-")), None)
    return {
        "python": image.python,
        "packages": listed,
        "commands": sorted(_names(f"{image.prefix}/bin")),
        "torch": torch["version"] if torch else "",
    }


def _distributions(image: _Image) -> Iterator[tuple[str, str]]:
    for folder in image.folders:
        for name in _names(folder):
            if re.fullmatch(_DIST, name):
                yield folder, name


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


# --- what is written ----------------------------------------------------------------------------


def _write_interpreter(folder: str, image: _Image) -> None:
    """Make it a virtual environment: library/venv, "How venvs work", and library/site."""
    home = image.configuration.get("home") or os.path.dirname(image.python)
    below = image.configuration.get("include-system-site-packages", "false")
    version = image.configuration.get("version", "")
    configuration = f"home = {home}\ninclude-system-site-packages = {below}\nversion = {version}\n"
    _write(f"{folder}/pyvenv.cfg", configuration)
    major = os.path.basename(folder)
    for name, target in (("python", image.python), ("python3", "python"), (major, "python")):
        link = f"{folder}/bin/{name}"
        if not os.path.islink(link) or os.readlink(link) != target:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(target, link)
    added = "".join(f"import site; site.addsitedir({place!r})\n" for place in image.folders)
    _write(f"{_packages(folder)}/launcher_image.pth", added)
    with contextlib.suppress(FileNotFoundError), open(f"{image.prefix}/pip.conf") as stream:
        _write(f"{folder}/pip.conf", stream.read())  # holds pip to the image's PyTorch


def _write_commands(folder: str, image: _Image) -> None:
    """Let `torchrun`, `pip` … of the image run here; what was installed here is left alone."""
    ours = {name for name in _names(f"{folder}/bin") if _is_ours(f"{folder}/bin/{name}")}
    wanted: set[str] = set()
    quotable = not re.search(r"[\"'`$\\]", folder)
    for name in _names(f"{image.prefix}/bin") if quotable else ():
        text = _read(f"{image.prefix}/bin/{name}")
        first, _, rest = text.partition("\n")
        place = f"{folder}/bin/{name}"
        if not re.fullmatch(rf"#!{re.escape(image.prefix)}/bin/python[\d.]*", first):
            continue
        wanted.add(name)
        if name in ours or not os.path.lexists(place):
            _write(place, f"{_first_line(folder)}\n{_MARK}\n{rest}", 0o755)
    for name in ours - wanted:
        os.unlink(f"{folder}/bin/{name}")


def _first_line(folder: str) -> str:
    """Return what starts a command with this environment's Python, as pip writes it.

    The kernel takes no spaces there, and 127 bytes at most (execve(2)): then it is a line for a
    shell that is a text for Python.
    """
    python = f"{folder}/bin/python"
    if " " not in python and len(os.fsencode(python)) < 126:
        return f"#!{python}"
    return f"""#!/bin/sh\n'''exec' "{python}" "$0" "$@"\n' '''"""


def _is_ours(path: str) -> bool:
    return not os.path.islink(path) and _MARK in _read(path).split("\n", 4)[:4]


def _write_descriptions(folder: str, image: _Image) -> None:
    """Describe each package of the image that is not there in a version of the user's own."""
    there = {_normal(name) for name in _names(_packages(folder))}
    for source, name in _distributions(image):
        if _normal(name) in there:
            continue
        there.add(_normal(name))
        files = {kind: _read(f"{source}/{name}/{kind}") for kind in _DESCRIBES}
        files = {kind: text for kind, text in files.items() if text} | {"INSTALLER": INSTALLER}
        place = f"{_packages(folder)}/{name}"
        os.makedirs(place, exist_ok=True)
        record = "".join(f"{name}/{kind},,\n" for kind in (*files, "RECORD"))
        for kind, text in (*files.items(), ("RECORD", record)):
            _write(f"{place}/{kind}", text)


def _drop_descriptions(folder: str, image: _Image) -> None:
    """Take away those of packages that the image has not, or has in another version."""
    kept = {name for _, name in _distributions(image)}
    packages = _packages(folder)
    for name in _names(packages):
        if (
            name not in kept
            and re.fullmatch(_DIST, name)
            and not _is_installed(f"{packages}/{name}")
        ):
            for file in _names(f"{packages}/{name}"):
                os.unlink(f"{packages}/{name}/{file}")
            os.rmdir(f"{packages}/{name}")


def _is_installed(description: str) -> bool:
    return _read(f"{description}/INSTALLER").strip() != INSTALLER


def _normal(name: str) -> str:
    """Return the name of the package that a dist-info folder describes, as PEP 503 compares it."""
    match = re.fullmatch(_DIST, name)
    return re.sub(r"[-_.]+", "-", match["name"]).lower() if match else ""


def _write(path: str, text: str, mode: int = 0o644) -> None:
    """Write a file whole: another box may do the same on the same volume."""
    made = f"{path}.{os.getpid()}"
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.write(text)
    os.replace(made, path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            return stream.read()
    except OSError:
        return ""


# --- what is said -------------------------------------------------------------------------------


def _stamp(folder: str) -> dict[str, object]:
    with contextlib.suppress(ValueError):
        found = json.loads(_read(f"{folder}/{_STAMP}"))
        return found if isinstance(found, dict) else {}
    return {}


def _remarks(folder: str, before: dict[str, object], now: dict[str, object]) -> Iterator[str]:
    """Say what another image means for what was installed, at the first start with it."""
    above, own = os.path.split(folder)
    others = [name for name in _names(above) if name.startswith("python3.") and name != own]
    for other in others if not before else ():
        if installed := _installed(f"{above}/{other}"):
            _write(f"{folder}/from-{other}.txt", "".join(f"{one}\n" for one in installed))
            yield (
                f"this image has {own}, and does not see the packages in {above}/{other}; to "
                f"install them again: pip install -r {folder}/from-{other}.txt"
            )
    if before and before.get("torch") != now["torch"] and _installed(folder):
        yield (
            f"PyTorch is {now['torch']} now, the packages in {folder} were installed beside "
            f"{str(before.get('torch'))[:40]}: one that was compiled for it may not load; pip "
            "install --force-reinstall NAME"
        )


def _installed(folder: str) -> list[str]:
    """Return what the user installed there, as pip's requirements."""
    packages = _packages(folder)
    found = [name for name in _names(packages) if re.fullmatch(_DIST, name)]
    own = [name for name in found if _is_installed(f"{packages}/{name}")]
    return [name.removesuffix(".dist-info").replace("-", "==", 1) for name in own]
