"""Which file is taken for the driver's libraries, and how to have another taken.  Pure."""

from __future__ import annotations

import re

from launcher.model.evidence import CLEAN, OWN_LIBRARY, Evidence, Library

CUDA, NVML = "libcuda.so.1", "libnvidia-ml.so.1"
KNOWN_DIRECTORY = "known directory"  # Library.source: found where the loader does not look
_VARIABLES = {"LD_PRELOAD": "[: ]", "LD_LIBRARY_PATH": "[:;]"}  # ld.so(8): their separators


def loader_error(seen: Evidence, name: str) -> str | None:
    """Return why the loader could not load a library; None where it could, or was not asked."""
    if name == NVML:
        return seen.reason if seen.driver_failed("library") else None
    given = seen.given
    return given.reason if given and given.outcome == "library" else None


def not_found(seen: Evidence, name: str) -> bool:
    """Return whether the loader found no file of that name.

    The same words after another name are those of a library that this one needs.
    """
    words = f"{name}: cannot open shared object file: No such file or directory"
    return (loader_error(seen, name) or "").startswith(words)


def dangling(seen: Evidence, name: str) -> Library | None:
    links = (one for one in seen.libraries if one.name == name and one.kind == "dangling")
    return next(links, None)


def unsearched(seen: Evidence, name: str) -> Library | None:
    """Return a usable file that the loader does not find: in another folder, or without a link."""
    stem = name.removesuffix("1")

    def is_meant(one: Library) -> bool:
        unlinked = one.name.startswith(stem) and one.name != name  # libcuda.so.550.54.15
        elsewhere = one.name == name and one.source == KNOWN_DIRECTORY
        return one.kind in ("real", "wsl") and (unlinked or elsewhere)

    return next(filter(is_meant, seen.libraries), None)


def blamed(seen: Evidence) -> bool:
    """Return whether another libcuda does better: alone, or with the masks gone as well."""
    own, given = seen.trial(OWN_LIBRARY), seen.given
    if own is None or given is None:
        return False
    differs = (own.outcome, own.code) != (given.outcome, given.code)
    return seen.cures(OWN_LIBRARY) or (differs and seen.cures(CLEAN))


def take_away(seen: Evidence, library: Library | None, package: str = "") -> str:
    """Return the command after which the loader passes this file by."""
    if library is None:
        return "in the container: unset LD_PRELOAD LD_LIBRARY_PATH"
    if library.source in _VARIABLES:
        return f"in the container: {_shortened(seen, library)}, and take it out of the image's ENV"
    purge = f"apt-get purge {package}, or " if package else ""
    return f"in the image: {purge}rm {library.path} && ldconfig; then create the container anew"


def _shortened(seen: Evidence, library: Library) -> str:
    """Return the command that leaves this file and its like out of the variable."""
    variable = library.source
    alike = [
        one.path
        for one in seen.libraries
        if (one.source, one.kind, one.version) == (variable, library.kind, library.version)
    ]
    paths = {library.path, *alike}
    dropped = paths if variable == "LD_PRELOAD" else {path.rpartition("/")[0] for path in paths}
    entries = re.split(_VARIABLES[variable], seen.environ.get(variable, ""))
    rest = [entry for entry in entries if entry and entry.rstrip("/") not in dropped]
    return f"export {variable}={':'.join(rest)}" if rest else f"unset {variable}"
