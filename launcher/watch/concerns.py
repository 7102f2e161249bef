"""What is not well in a running box, or went wrong in it, each with what mends it.  Pure.

One list for whoever shows it: the page, and programs that ask for JSON.
"""

from __future__ import annotations

from collections.abc import Iterator

from launcher.model.named_tuple import NamedTuple
from launcher.watch.seen import Seen

_FIX = "; fix: "
_LOG = "what that means: launcher logs watch"


class Concern(NamedTuple):
    """Something that somebody should look at."""

    what: str
    fix: str = ""  # "" = nobody knows one, or what it is says it


def concerns(seen: Seen) -> Iterator[Concern]:
    """Yield what is so now, and then what has happened since the start."""
    for name, service in seen.services.items():
        if service.get("ready") is not True:
            yield _split(f"{name}: {service.get('detail')}")
    for words in seen.troubles.values():
        yield from map(_split, map(str, words.values()))
    for gpu, codes in seen.xids.items():
        came = ", ".join(f"Xid {code} ×{count}" for code, count in codes.items())
        yield Concern(f"GPU {gpu}: {came}; {_LOG}")
    if count := seen.memory_kills:
        what = "1 process was" if count == 1 else f"{count} processes were"
        use_less = "use less at a time"
        yield Concern(
            f"{what} killed for want of memory: a kernel or program of yours may be gone",
            f"{use_less}, or {seen.more_memory}" if seen.more_memory else use_less,
        )


def _split(words: str) -> Concern:
    what, _, fix = words.partition(_FIX)
    return Concern(what, fix)
