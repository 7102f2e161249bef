"""What /etc/ld.so.preload puts into every program: no trial of CUDA can leave that out.  Pure."""

from __future__ import annotations

from launcher.model.evidence import Evidence
from launcher.model.host import Preload

_FILE = "/etc/ld.so.preload"


def in_the_way(seen: Evidence) -> str | None:
    """Return whether CUDA hangs or crashes in each trial, with somebody's library in all of them.

    An error that CUDA returns says itself what it is.
    """
    loaded, cuda = _loaded(seen), seen.cuda
    if not loaded or cuda is None or cuda.outcome not in ("hung", "crashed"):
        return None
    how = "hangs" if cuda.outcome == "hung" else "crashes"
    return f"CUDA {how} ({cuda.reason}), with {_names(loaded)} in every program, by {_FILE}"


def not_loaded(seen: Evidence) -> str | None:
    faulty = [one for one in seen.machine.host.preloads if one.fault]
    said = ", ".join(f"{one.path}, which {one.fault}" for one in faulty)
    return f"{_FILE} names {said}" if faulty else None


def take_out(seen: Evidence) -> str:
    """Return how to try without; of a layer that shares GPUs, whose business it is."""
    paths = _names(_loaded(seen))
    return (
        f"in the container: take {paths} out of {_FILE}, and try again; where it belongs to a "
        "layer that shares GPUs (HAMi), that layer must know this driver: update it"
    )


def mend(seen: Evidence) -> str:
    paths = _names([one for one in seen.machine.host.preloads if one.fault])
    return (
        f"in the container: take {paths} out of {_FILE}; where that file is mounted by a layer "
        "that shares GPUs (HAMi), let it mount the library too"
    )


def _loaded(seen: Evidence) -> list[Preload]:
    return [one for one in seen.machine.host.preloads if not one.fault]


def _names(preloads: list[Preload]) -> str:
    return ", ".join(one.path for one in preloads)
