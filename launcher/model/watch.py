"""What watch looks at, as it was at the start, and what it sees there.

By itself: watch stays in memory as long as the box lives, and the plan and the machine take two
megabytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from launcher.model.secret import Secret


@dataclass(frozen=True)
class JupyterDoor:
    """Where Jupyter is asked how it is."""

    port: int
    listen: str  # "" = every address
    target: Secret | None  # of the request, maybe with the token; None = answers nobody but a hub
    authorization: Secret | None = None  # the header, with the token
    encrypted: bool = False


@dataclass(frozen=True)
class ListedGpu:
    """A GPU that NVML listed."""

    uuid: str
    instances: frozenset[str] | None  # UUIDs of its MIG instances; None = not in MIG mode


@dataclass(frozen=True)
class GpusAtStart:
    """The GPUs of the start, and how often to look whether they are still there."""

    interval: float  # seconds
    listed: tuple[ListedGpu, ...]
    lost: int  # how many more NVML counted, and could not open
    control_fault: str  # what opening the driver's control node did; "" = it opened
    environ: tuple[tuple[str, str], ...]  # in which the driver was asked, without secrets


@dataclass(frozen=True)
class WatchTarget:
    """The box, as watch looks at it."""

    run_dir: str
    started: float  # CLOCK_MONOTONIC, seconds
    jupyter: JupyterDoor | None
    ssh_port: int | None
    gpus: GpusAtStart | None  # None = there were none, or nobody wants them watched


@dataclass(frozen=True)
class Probe:
    """What a probe saw of one service."""

    service: str
    ready: bool
    detail: str  # why not, or what answered
