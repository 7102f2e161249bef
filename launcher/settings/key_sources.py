"""Where public keys come from: variables and mounted files.  Reads only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping

from launcher.model.errors import reason
from launcher.model.plan import KeyLine
from launcher.model.public_key import OTHER_FORMAT, PRIVATE_KEY
from launcher.paths.folder import LARGEST, read_text

MOST_KEYS = 50_000  # of one source: a megabyte has room for 13,000 of the shortest kind
_LINE_END = r"\r\n|\n|\r"
# Some platforms send a line break as these two characters.  It is one where a key, a comment or
# the end follows: an account's name may be corp\nick.
_WRITTEN_LINE_END = r"\\n(?=\s*(?:$|#|\\n|-----|(?:ssh|sk-ssh|ecdsa|sk-ecdsa)-\S+\s))"
_QUOTE = r'((?<!\\)")'

# Blocks of several lines that are none of authorized_keys: where each begins and ends, what it is.
_BLOCKS = (
    (r"-----BEGIN .*PRIVATE KEY-----", "-----END ", PRIVATE_KEY),
    (r"-----BEGIN .*-----", "-----END ", OTHER_FORMAT),
    (r"PuTTY-User-Key-File-\d", "Private-MAC:", PRIVATE_KEY),
    ("---- BEGIN SSH2 PUBLIC KEY", "---- END ", OTHER_FORMAT),
)


def read_keys(
    variables: Mapping[str, str],
    files: Iterable[str],
    directories: Iterable[str],
    warnings: list[str],
) -> tuple[tuple[KeyLine, ...], bool]:
    """Return the lines of every key source, and whether any source was set at all.

    Args:
        variables: those that hold keys themselves, by name.
        directories: each file in them is a source; that one is not there is no fault.
    """
    sources = {name: text for name, text in variables.items() if text.strip()}
    for path in (*files, *(path for each in directories for path in _files_in(each))):
        try:
            sources[path] = read_text(path)
            if len(sources[path].encode(errors="surrogateescape")) == LARGEST:
                warnings.append(f"{path}: only its first MiB is read")
        except OSError as err:
            sources[path] = ""
            warnings.append(f"{path}: cannot read it: {reason(err)}; its keys may not log in")
    lines = [line for source, text in sources.items() for line in split(source, text)]
    return tuple(lines), bool(sources)


def split(source: str, text: str) -> Iterator[KeyLine]:
    """Yield each line that is meant as a key, numbered as an editor counts.

    A block of several lines, such as a private key, is one, and its text is left behind.  After
    `MOST_KEYS` the rest is one, too.
    """
    blocks = [(re.compile(begin), end, kind) for begin, end, kind in _BLOCKS]
    ends: str | None = None
    found = 0
    for number, line in enumerate(_lines(_without_quotes(text)), start=1):
        if ends is None:
            begins = ((end, kind) for begin, end, kind in blocks if begin.match(line))
            ends, kind = next(begins, (None, ""))
            if ends is not None:
                yield KeyLine(source, number, "", kind)
            elif line and not line.startswith("#") and line != "null":
                found += 1
                if found > MOST_KEYS:
                    yield KeyLine(source, number, "", f"only the first {MOST_KEYS} keys are read")
                    return
                # "null" is what one platform sends for an account without a key.
                yield KeyLine(source, number, line)
        if ends is not None and ends in line:
            ends = None


def fault(path: str, directory: bool) -> str | None:
    """Return why keys cannot be read from a path that the user named, or None."""
    try:
        os.listdir(path) if directory else read_text(path)
    except OSError as err:
        return reason(err)
    return None


def _files_in(directory: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return
    for name in names:
        path = os.path.join(directory, name)
        # Kubernetes mounts its bookkeeping as ..data; an empty folder is what Docker makes in the
        # place of a file that is not on the host.
        if not name.startswith(".") and not (os.path.isdir(path) and _has_content(path)):
            yield path


def _has_content(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return True


def _without_quotes(text: str) -> str:
    """Take off the quotes around a whole value: `docker run --env-file` keeps them."""
    whole = text.strip()
    if len(whole) > 1 and whole[0] in ("'", '"') and whole[-1] == whole[0]:
        return whole[1:-1]
    return text.removeprefix("\ufeff")  # Windows begins a text file with it


def _lines(text: str) -> Iterator[str]:
    for line in re.split(_LINE_END, text):
        if "\\n" not in line:
            yield line.strip()
            continue
        inside = False
        pieces: list[str] = []
        for piece in re.split(_QUOTE, line):  # an option's value may hold a \n of its own
            inside ^= piece == '"'
            pieces.append(piece if inside else re.sub(_WRITTEN_LINE_END, "\n", piece))
        yield from (part.strip() for part in "".join(pieces).split("\n"))
