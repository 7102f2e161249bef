"""Which form of LAUNCHER_GPUS somebody meant who wrote another: asked for where one is refused."""

from __future__ import annotations

import re
from collections.abc import Callable

_LONGEST = 200  # characters; who writes more means something else
_NO_GPU = r"-1|cpu|cpu-?only|no|off|false|void|null|nothing|no[-_ ]?gpus?|idle:0"
_ONE = r"(?:#|(?:gpu|cuda|nvidia|device|index|id)s? ?[:=#]? ?|/dev/nvidia)([0-9]{1,2})"
_RANGE = r"(?:index:)?([0-9]{1,2})\s*(?:-|\.\.|:)\s*([0-9]{1,2})"
_UUID = r"(gpu|mig)-([0-9a-f][0-9a-f-]*)"
_COUNT = r"(?:best|any|count|n)\s*[:=]?\s*([1-9][0-9]?)|([1-9][0-9]?)\s*(?:x|×|gpus?)"


def meant(text: str) -> str | None:
    """Return the form that was probably meant, with what it does: "index:0 (GPU 0 alone)"."""
    bare = text.strip().strip("'\"").strip().lower()
    bare = re.sub(r"^(?:gpus|devices?)=", "", bare).strip("'\"")
    for pattern, answer in _FORMS if len(bare) < _LONGEST else ():
        if found := re.fullmatch(pattern, bare):
            return answer(found)
    return None


def _range(found: re.Match[str]) -> str | None:
    numbers = range(int(found[1]), int(found[2]) + 1)
    return ",".join(map(str, numbers)) if 2 <= len(numbers) <= 16 else None


def _list(found: re.Match[str]) -> str | None:
    entries = [entry for entry in re.split(r"[\s,;+]+", found[0]) if entry]
    if len(entries) == 1:
        return f"index:{entries[0]} (GPU {entries[0]} alone)"
    return ",".join(entries)


# A pattern of the whole text in lower case, and the form that it stands for.
_FORMS: tuple[tuple[str, Callable[[re.Match[str]], str | None]], ...] = (
    ("0", lambda found: "index:0 (GPU 0 alone) or none (no GPU)"),
    (_NO_GPU, lambda found: "none (no GPU)"),
    ("all|idle|none|idle:[1-9][0-9]?", lambda found: found[0]),
    (_ONE, lambda found: f"index:{int(found[1])} (GPU {int(found[1])} alone)"),
    (_RANGE, _range),
    (r"[,;\s]*[0-9]{1,2}(?:[\s,;+]+[0-9]{1,2})*[,;\s]*", _list),
    (_UUID, lambda found: f"{found[1].upper()}-{found[2]}"),
    (_COUNT, lambda found: f"{found[1] or found[2]} (so many GPUs, the best)"),
)
