"""Jobs of torchrun's that run here, and what went through their interfaces.

What stands beside a torchrun (cluster/beside) has the job on its command line, which everybody may
read: root in a container may not look into the environment of others' processes (proc(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from launcher.detect.cgroup import read_text
from launcher.model import codec
from launcher.model.job import RunningJob, Traffic
from launcher.model.named_tuple import NamedTuple

MODULE = "launcher.cluster.beside"
_MOST = 16  # jobs that are told of
_LONGEST = 1 << 16  # bytes of a command line
_WORD = 4  # bytes that an InfiniBand port counts as one (ABI/stable/sysfs-class-infiniband)
# What reading it raises where it is none, whoever wrote it.
_NO_JOB = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, AssertionError, RecursionError,
)  # fmt: skip


class Found(NamedTuple):
    """A job, and where its torchrun is."""

    pid: int
    job: RunningJob


def read_jobs(root: Path = Path("/")) -> tuple[Found, ...]:
    """Return the jobs whose torchrun runs here, the oldest first."""
    found = sorted(_read_all(root), key=lambda one: one.job.began)
    return tuple(found[:_MOST])


def _read_all(root: Path) -> Iterator[Found]:
    for folder in (root / "proc").glob("[0-9]*"):
        try:
            with open(folder / "cmdline", "rb") as stream:
                words = stream.read(_LONGEST).decode(errors="replace").split("\0")
        except OSError:
            continue
        if MODULE in words[:5] and (found := _parse(words[words.index(MODULE) + 1 :])):
            yield found


def _parse(words: list[str]) -> Found | None:
    """Read what anybody may have written there."""
    try:
        return Found(int(words[0]), codec.from_json(RunningJob, words[1]))
    except _NO_JOB:
        return None


def read_traffic(names: Iterable[str], root: Path = Path("/")) -> tuple[Traffic, ...]:
    """Return what went through each of them so far; one that is gone is left out.

    Args:
        names: interfaces ("eth0") and ports for RDMA ("mlx5_0:1").
    """
    found = (_port(name, root) if ":" in name else _interface(name, root) for name in names)
    return tuple(one for one in found if one is not None)


def _interface(name: str, root: Path) -> Traffic | None:
    folder = root / "sys/class/net" / os.path.basename(name) / "statistics"
    return _traffic(name, folder, ("rx_bytes", "tx_bytes"), 1)


def _port(name: str, root: Path) -> Traffic | None:
    card, _, port = name.partition(":")
    folder = root / "sys/class/infiniband" / os.path.basename(card) / "ports"
    counters = folder / os.path.basename(port) / "counters"
    return _traffic(name, counters, ("port_rcv_data", "port_xmit_data"), _WORD)


def _traffic(name: str, folder: Path, files: tuple[str, str], unit: int) -> Traffic | None:
    texts = [read_text(folder / file) or "" for file in files]
    if not all(text.isascii() and text.isdigit() for text in texts):
        return None
    received, sent = (unit * int(text) for text in texts)
    return Traffic(name, received, sent)
